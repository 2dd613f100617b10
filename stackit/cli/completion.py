"""Scripts that complete the command line of ``stackit`` in bash, zsh and fish, made from its parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@+,./-]+", re.ASCII)
_FILES = ("FILE", "DIR")
"""Beginnings of the names that the help gives to values that are files."""


class _Argument(msgspec.Struct, frozen=True):
    """An option, or (without ``names``) an argument that has its place.

    ``takes_value`` is False for a flag. ``value`` is what the help calls its value, ``choices`` are its only values, if
    there are such.
    """

    names: tuple[str, ...]
    help: str
    value: str
    takes_value: bool
    choices: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        return self.takes_value and self.value.startswith(_FILES)


class _Command(msgspec.Struct, frozen=True):
    """A command, its own options, and the arguments that are none."""

    name: str
    help: str
    options: Sequence[_Argument]
    positional: Sequence[_Argument]


class _CommandLine(msgspec.Struct, frozen=True):
    """All that can be completed.

    ``common`` are the options that stand before a command or behind it, ``first`` those that stand in place of one.
    """

    common: Sequence[_Argument]
    first: Sequence[_Argument]
    commands: Sequence[_Command]

    @classmethod
    def of(cls, parser: argparse.ArgumentParser) -> _CommandLine:
        """Read the parser of all commands."""
        top = [each for each in _arguments(parser) if each.names]
        known = {each.names for each in top}
        common = set(known)
        commands = []
        for action in parser._actions:  # noqa: SLF001 - argparse has no other list of what was added
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
                helps = {each.dest: each.help for each in action._choices_actions}  # noqa: SLF001 - as above
                for name, command in action.choices.items():
                    arguments = list(_arguments(command))
                    own = [each for each in arguments if each.names and each.names not in known]
                    positional = [each for each in arguments if not each.names]
                    commands.append(_Command(name, _literal(helps.get(name)), own, positional))
                    common &= {each.names for each in arguments}
        split = {wanted: [each for each in top if (each.names in common) is wanted] for wanted in (True, False)}
        return cls(split[True], split[False], commands)


def _arguments(parser: argparse.ArgumentParser) -> Iterable[_Argument]:
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:  # noqa: SLF001 - as above
            continue
        names = _plain_words(action.option_strings)
        if action.option_strings and not names:
            continue
        yield _Argument(
            names=names,
            help=_literal(action.help),
            value=str(action.metavar or action.dest),
            takes_value=action.nargs != 0,
            choices=_plain_words(map(str, action.choices or ())),
        )


def _plain_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words that mean themselves in every shell, which runs what ``$(…)`` says in the words that it offers.

    A command may take its choices from anywhere. The others can be typed, and are not offered.
    """
    return tuple(each for each in words if _PLAIN_WORD.fullmatch(each))


def _literal(text: str | None) -> str:
    return " ".join((text or "").replace("%%", "%").split())


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for one of ``SHELLS``."""
    return "\n".join(_SCRIPTS[shell](_CommandLine.of(parser)))


# -- bash -------------------------------------------------------------------------


def _bash(line: _CommandLine) -> Iterable[str]:
    names = "|".join(each.name for each in line.commands)
    common = _names(line.common)
    yield "# bash completion of stackit: source <(stackit completion bash)"
    yield "_stackit() {"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '    local command="" options="" values="" files="" word'
    yield "    COMPREPLY=()"
    yield "    # For bash, --name=value is three words."
    yield '    if [[ $current == "=" ]]; then'
    yield '        current=""'
    yield '    elif [[ $previous == "=" ]]; then'
    yield '        previous="${COMP_WORDS[COMP_CWORD-2]}"'
    yield "    fi"
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield f'        case "$word" in {names}) command="$word"; break ;; esac'
    yield "    done"
    yield '    case "$command $previous" in'
    for command, options in (("*", line.common), *((each.name, each.options) for each in line.commands)):
        for option in options:
            if option.takes_value:
                pattern = "|".join(f'{command}" {name}"' for name in option.names)
                yield f"        {pattern}) {_bash_values(option)}; return ;;"
    yield "    esac"
    yield '    case "$command" in'
    for each in line.commands:
        values = [choice for argument in each.positional for choice in argument.choices]
        files = " files=yes" if any(argument.is_file for argument in each.positional) else ""
        words = _quoted([*_names(each.options), *common])
        yield f"        {each.name}) options={words} values={_quoted(values)}{files} ;;"
    words = _quoted([*_names(line.first), *common])
    yield f"        *) options={words} values={_quoted(each.name for each in line.commands)} ;;"
    yield "    esac"
    yield "    if [[ $current != -* && -n $files ]]; then"
    yield f"        {_BASH_FILES}"
    yield "    elif [[ $current != -* && -n $values ]]; then"
    yield '        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current")'
    yield "    else"
    yield '        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")'
    yield "    fi"
    yield "}"
    yield "complete -F _stackit stackit"


_BASH_FILES = 'compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current")'


def _bash_values(option: _Argument) -> str:
    if option.choices:
        return f'mapfile -t COMPREPLY < <(compgen -W {_quoted(option.choices)} -- "$current")'
    return _BASH_FILES if option.is_file else ":"


def _names(arguments: Iterable[_Argument]) -> list[str]:
    return [name for each in arguments for name in each.names]


def _quoted(words: Iterable[str]) -> str:
    """Return words as one word of bash or zsh."""
    return "'" + " ".join(words).replace("'", "'\\''") + "'"


# -- zsh --------------------------------------------------------------------------


def _zsh(line: _CommandLine) -> Iterable[str]:
    yield "#compdef stackit"
    yield "# zsh completion of stackit: a file _stackit in $fpath, or source <(stackit completion zsh)"
    yield "_stackit() {"
    yield "    local context state state_descr line"
    yield "    typeset -A opt_args"
    yield "    local -a common commands"
    yield "    common=("
    yield from (f"        {spec}" for option in line.common for spec in _zsh_option(option))
    yield "    )"
    yield "    commands=("
    yield from (f"        {_quoted([f'{each.name}:{each.help}'])}" for each in line.commands)
    yield "    )"
    first = " ".join(spec for option in line.first for spec in _zsh_option(option))
    yield f"    _arguments -C $common {first} '1: :->command' '*:: :->argument'"
    yield "    case $state in"
    yield "    command) _describe command commands ;;"
    yield "    argument)"
    yield "        case $words[1] in"
    for each in line.commands:
        specs = [spec for option in each.options for spec in _zsh_option(option)]
        specs += [_quoted([f":{_zsh_values(argument)}"]) for argument in each.positional]
        yield f"        {each.name}) _arguments $common {' '.join(specs)} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield 'if [[ $funcstack[1] == _stackit ]]; then _stackit "$@"; else compdef _stackit stackit; fi'


def _zsh_option(option: _Argument) -> Iterable[str]:
    others = f"({' '.join(option.names)})" if len(option.names) > 1 else ""
    text = _zsh_text(option.help)
    for name in option.names:
        if not option.takes_value:
            yield _quoted([f"{others}{name}[{text}]"])
        else:
            yield _quoted([f"{others}{name}{'=' if name.startswith('--') else '+'}[{text}]:{_zsh_values(option)}"])


def _zsh_values(argument: _Argument) -> str:
    if argument.choices:
        return f"{_zsh_text(argument.value)}:({' '.join(argument.choices)})"
    return f"{_zsh_text(argument.value)}:{'_files' if argument.is_file else ' '}"


def _zsh_text(text: str) -> str:
    """Return a text in which ``_arguments`` finds nothing of its own syntax."""
    return "".join(f"\\{letter}" if letter in "\\[]:" else letter for letter in text)


# -- fish -------------------------------------------------------------------------


def _fish(line: _CommandLine) -> Iterable[str]:
    yield "# fish completion of stackit: stackit completion fish > ~/.config/fish/completions/stackit.fish"
    yield "function __stackit_command"
    yield "    for word in (commandline -opc)[2..-1]"
    yield f"        if contains -- $word {' '.join(each.name for each in line.commands)}"
    yield "            echo $word"
    yield "            return"
    yield "        end"
    yield "    end"
    yield "    return 1"
    yield "end"
    yield "complete -c stackit -f"
    yield from (f"complete -c stackit {_fish_option(option)}" for option in line.common)
    yield from (f"complete -c stackit -n 'not __stackit_command' {_fish_option(option)}" for option in line.first)
    for each in line.commands:
        yield f"complete -c stackit -n 'not __stackit_command' -a {each.name} -d {_fish_text(each.help)}"
        condition = f"-n 'test (__stackit_command; or echo none) = {each.name}'"
        yield from (f"complete -c stackit {condition} {_fish_option(option)}" for option in each.options)
        for argument in each.positional:
            if argument.choices:
                yield f"complete -c stackit {condition} -a {_quoted(argument.choices)}"
            elif argument.is_file:
                yield f"complete -c stackit {condition} -F"


def _fish_option(option: _Argument) -> str:
    parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.choices:
        parts.append(f"-x -a {_fish_text(' '.join(option.choices))}")
    elif option.takes_value:
        parts.append("-r -F" if option.is_file else "-x")
    return " ".join([*parts, f"-d {_fish_text(option.help)}"])


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: Mapping[str, Callable[[_CommandLine], Iterable[str]]] = MappingProxyType(
    {"bash": _bash, "zsh": _zsh, "fish": _fish}
)
SHELLS = tuple(_SCRIPTS)
