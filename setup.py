"""Packaging.

``twisted.plugins`` is a namespace without an ``__init__.py``: Twisted looks for
``twistd`` commands in it on every path entry, so it is listed by hand
(``find_packages`` would miss it), and ``package_dir`` stays at the root, because
any other layout gives editable installs an import hook that Twisted cannot list.

The modules that every delivery passes are compiled by Cython, unchanged, where there is a C compiler, and take a third
less time then. All works without. ``STACKIT_PURE=1`` leaves it out, and so does an editable install, whose compiled
modules would not change with their sources.
"""

import ast
import os
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

BUNDLED = {
    "mirror": "stackit.plugins.mirror:Mirror",
    "logger": "stackit.plugins.logger:Logger",
    "ratelimit": "stackit.plugins.ratelimit:RateLimit",
    "metrics": "stackit.plugins.metrics:Metrics",
}

# None with a hook in it: pluggy looks for functions of Python.
COMPILED = {
    "stackit": "bus coroutines dispatch events isolation key_values lanes logs occurrences outlet redaction requests"
    " times watched_file",
    "stackit.github": "event_types payloads refnames signature",
    "stackit.journal": "appending batch bodies files fingerprints journal recording records rows writer",
    "stackit.plugins.logger": "lines",
    "stackit.plugins.metrics": "counts tallies",
    "stackit.plugins.ratelimit": "addresses buckets",
    "stackit.web": "answers connection crowd reading request site webhook",
}


class Compile(build_ext):
    """Compiles what can be; what cannot is installed as it is, like all the sources beside what was compiled."""

    def run(self) -> None:
        if self.editable_mode or self.inplace or os.environ.get("STACKIT_PURE"):
            self.extensions = []
        if self.extensions:
            self._translate()
        super().run()

    def _translate(self) -> None:
        from Cython.Build import cythonize  # noqa: PLC0415 - not there, and not needed, for an editable install

        self.parallel = self.parallel or os.cpu_count()
        declared = Path(self.build_temp, "declared")
        declared.mkdir(parents=True, exist_ok=True)
        for each in self.extensions:
            (declared / f"{each.name}.pxd").write_text(declarations(Path(each.sources[0])))
        translated = cythonize(
            [Extension(each.name, each.sources) for each in self.extensions],
            build_dir=self.build_temp,
            include_path=[str(declared)],
            # An annotation says what a value is, and not how C is to hold it.
            compiler_directives={"annotation_typing": False},
            language_level=3,
            nthreads=self.parallel,
            quiet=True,
        )
        sources = {each.name: each.sources for each in translated}
        for each in self.extensions:
            each.sources = sources[each.name]


def declarations(source: Path) -> str:
    """For Cython: what of a module C may hold and call by itself, and what stays as it was for everyone else.

    A class with ``__slots__`` and no base keeps its attributes in a struct, and looks none up. Functions, and the
    methods of such classes, find each other without being looked up.
    """
    lines = []
    for each in ast.parse(source.read_text()).body:
        if isinstance(each, ast.FunctionDef):
            lines += prototype(each)
        elif (
            isinstance(each, ast.ClassDef) and not each.bases and not each.decorator_list and (slots := slots_of(each))
        ):
            methods = [method for method in each.body if isinstance(method, ast.FunctionDef)]
            lines.append(f"cdef class {each.name}:")
            lines += [f"    cdef public object {name}" for name in slots]
            lines += [f"    {line}" for method in methods for line in prototype(method)]
    return "\n".join([*lines, ""])


def slots_of(definition: ast.ClassDef) -> list[str]:
    for line in definition.body:
        if isinstance(line, ast.Assign) and "__slots__" in ast.unparse(line):
            return ast.literal_eval(line.value)
    return []


def prototype(function: ast.FunctionDef) -> list[str]:
    """Its line; none for what C cannot call as it stands: with decorators, closures, or arguments in any order."""
    given = function.args
    closures = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.GeneratorExp, ast.Yield, ast.YieldFrom)
    if (
        function.decorator_list
        or function.name.startswith("__")
        or any((given.vararg, given.kwarg, given.kwonlyargs, given.posonlyargs, given.defaults))
        or any(isinstance(each, closures) for statement in function.body for each in ast.walk(statement))
    ):
        return []
    return [f"cpdef object {function.name}({', '.join(each.arg for each in given.args)})"]


def extension(module: str) -> Extension:
    source = module.replace(".", "/") + ".py"
    return Extension(module, [source], optional=True, extra_compile_args=["-O2", "-g0"])


setup(
    name="stackit",
    version="0.1.0",
    description="GitHub webhooks as verified events on a plugin bus, and git mirrors fresh to the second",
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=[*find_packages(include=["stackit", "stackit.*"]), "twisted.plugins"],
    package_data={"stackit": ["py.typed"]},
    ext_modules=[extension(f"{package}.{name}") for package, names in COMPILED.items() for name in names.split()],
    cmdclass={"build_ext": Compile},
    install_requires=[
        "twisted[tls]>=25.5",
        "treq>=24.9.1",
        "cryptography>=42",
        "httptools>=0.6.4",
        "lz4>=4.3",
        "pluggy>=1.5",
        "msgspec>=0.19",
        "prometheus_client>=0.20",
    ],
    extras_require={
        "test": ["pytest>=8.2", "pytest-twisted>=1.14.3"],
        # Whom the benchmarks compare with; those that are not on PyPI are in benchmarks/receivers.py.
        "bench": ["gidgethub", "aiohttp", "buildbot", "buildbot-www", "grokmirror"],
        "check": ["ruff", "mypy", "pytest>=8.2", "pytest-twisted>=1.14.3"],
    },
    entry_points={
        "stackit": [f"{name} = {target}" for name, target in BUNDLED.items()],
        "pytest11": ["stackit = stackit.testing.fixtures"],
    },
    zip_safe=False,
)
