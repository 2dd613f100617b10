"""The import of a plugin from a file, with the modules beside it.

``import helper`` in the file means ``helper.py`` in its directory, and nowhere else does it: each plugin has its own
copies, under ``stackit_plugin_NAME`` in ``sys.modules``, and no directory is added to ``sys.path``. An import statement
calls ``__import__`` of the builtins of its module, so the modules of a plugin have builtins of their own, whose
``__import__`` looks beside the file first.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

PREFIX = "stackit_plugin_"

_NOT_BESIDE = sys.stdlib_module_names | {"stackit"}
"""Names that always mean what they mean elsewhere."""


def import_file(plugin: str, path: Path) -> ModuleType:
    """Return the module of a plugin's file, imported anew together with the modules beside it.

    Raises ImportError for a file that is not Python, and whatever its code raises; nothing is left behind then.
    """
    package = PREFIX + plugin.replace(".", ":")
    name = f"{package}.{path.stem.replace('.', ':')}"
    spec = spec_from_file_location(name, path, loader=_loader(name, path))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    if not any(isinstance(each, _PluginFinder) for each in sys.meta_path):
        sys.meta_path.insert(0, _PluginFinder())  # before Python's own, which finds the same files
    _forget(package)
    # The package is none of the files: what is imported becomes an attribute of it, and would replace one of theirs.
    parent = ModuleType(package)
    parent.__path__ = [str(path.parent)]
    module = module_from_spec(spec)
    # Also where dataclasses and msgspec look up the names in annotations.
    sys.modules[package], sys.modules[name] = parent, module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(package)
        raise
    return module


def _loader(name: str, path: Path) -> SourceFileLoader | None:
    return _PluginLoader(name, str(path)) if path.suffix in SOURCE_SUFFIXES else None


def _forget(package: str) -> None:
    for name in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
        del sys.modules[name]


class _PluginLoader(SourceFileLoader):
    """Loads a module of a plugin."""

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _Import(package)}
        super().exec_module(module)


class _PluginFinder:
    """Finds the modules beside a plugin's file, and in packages beside it: files and packages with ``__init__.py``."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        for directory in path or ():
            spec = FileFinder(directory, (_PluginLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None and spec.loader is not None:  # else a directory that is no package
                return spec
        return None


class _Import:
    """``__import__`` for the modules of a plugin: a name means the module beside the plugin's file, if it is there.

    Names of the standard library and of stackit never do, nor does a module's own name in the module itself:
    ``slack.py`` may import an installed ``slack``.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the names of Python
        locals: Mapping[str, object] | None = None,  # noqa: A002 - the names of Python
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = f"{self._package}.{name.partition('.')[0]}"
        if level or (globals or {}).get("__name__") == top or not self._is_beside(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = f"{self._package}.{name}"
        if fromlist:
            return builtins.__import__(found, globals, locals, fromlist, 0)
        import_module(found)
        return sys.modules[top]

    def _is_beside(self, module: str) -> bool:
        if module.rpartition(".")[2] in _NOT_BESIDE:
            return False
        if module in sys.modules:
            return True
        package = sys.modules.get(self._package)
        return package is not None and _PluginFinder().find_spec(module, package.__path__) is not None
