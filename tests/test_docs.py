"""The documentation: complete, without dead links, and with examples that work."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast, get_args

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from scraping import Scraped
from twisted.internet.testing import MemoryReactorClock

import stackit
import stackit.testing
from stackit.api import hookspecs
from stackit.api.occurrences import OCCURRENCES, RefusalReason
from stackit.api.repos import DEFAULT_REFSPECS
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.bus.plugin_settings import PluginTable
from stackit.cli.commands import COMMANDS
from stackit.cli.loading import load_commands
from stackit.cli.parser import parse
from stackit.config import access, apps, discover, fleet, forges, login, model, recovery
from stackit.config.load import load
from stackit.config.setting import fields
from stackit.config.setting import settings as all_settings
from stackit.fleet.answers import DatabaseState
from stackit.fleet.clock import FleetClock
from stackit.fleet.fleet import Fleet
from stackit.fleet.metrics import FleetMetrics
from stackit.fleet.questions import Candidate
from stackit.journal.postgres.clock import Reading
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.metrics import WriterMetrics
from stackit.journal.postgres.ownership import Ownership
from stackit.peers.metrics import PeerMetrics
from stackit.plugins.mirror import Mirror
from stackit.plugins.ratelimit import RateLimit
from stackit.tap import Options
from stackit.testing.faults import FaultKind
from stackit.text.units import decode_unit

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TABLES = {
    "admin",
    "login",
    "fleet",
    "webhook",
    "hooks",
    "sync",
    "journal",
    "handlers",
    "repos",
    "owners",
    "hosts",
    "apps",
    "discover",
    "discovery",
    "recovery",
    "forges",
    "plugins",
}
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("stackit_"))


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next heading of its level or above."""
    start = text.index(f"{heading}\n") + len(heading)
    level = len(heading.split(maxsplit=1)[0])
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(text, start)
    return text[start : end.start() if end else None]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def settings(struct: Any) -> Iterator[str]:
    return (field.encode_name for field in msgspec.structs.fields(struct))


# -- complete ---------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_with_an_example_that_a_plugin_could_use(hook: Any) -> None:
    (example,) = blocks(section(page("hooks"), f"## {hook}"), "python")
    module = ModuleType("example")
    exec(compile(example, f"docs/hooks.md, {hook}", "exec"), vars(module))  # noqa: S102 - our own page
    bus = Bus()
    bus.register("example", module.Watch() if hasattr(module, "Watch") else module)
    implemented = {name for name in HOOKS if bus._of(name)} or {"stackit_event" for _ in bus.subscribers()}
    assert implemented == {hook}


def test_every_hook_is_in_the_overview() -> None:
    overview = page("hooks").partition("\n## ")[0]
    assert [hook for hook in HOOKS if f"[`{hook}`](#{hook})" not in overview] == []


TABLES_OF_SETTINGS = [
    ("## The top of the file", model.FileTable, TABLES),
    ("## `[admin]`", model.AdminConfig, set()),
    ("## `[login]`", login.LoginConfig, set()),
    ("## `[webhook]`", model.WebhookConfig, set()),
    ("## `[hooks]`", model.HooksConfig, set()),
    ("## `[sync]`", model.SyncConfig, set()),
    ("## `[journal]`", model.JournalConfig, set()),
    ("## `[handlers]`", model.HandlersConfig, set()),
    ("## `[fleet]`", fleet.FleetConfig, set()),
    ("## `[[repos]]`", access.RepoTable, set()),
    ("## `[[owners]]`", access.OwnerTable, set()),
    ("## `[[hosts]]`", access.HostTable, set()),
    ("## `[[apps]]`", apps.AppTable, set()),
    ("## `[[discover]]`", discover.DiscoverTable, set()),
    ("## `[discovery]`", discover.DiscoveryConfig, set()),
    ("## `[recovery]`", recovery.RecoveryConfig, set()),
    ("## `[forges.NAME]`", forges.ForgeTable, set()),
    ("## `[plugins.NAME]`", PluginTable, set()),
    ("### `[plugins.mirror]`", Mirror.Settings, set()),
    ("### `[plugins.ratelimit]`", RateLimit.Settings, set()),
]


def rows_of_settings(heading: str) -> dict[str, tuple[str, str]]:
    """Return the default and the meaning of each setting in the table below a heading of the reference page."""
    text = section(page("configuration"), heading).partition("\n### ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) ?\| (.*) \|$", text, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in rows}


@pytest.mark.parametrize(("heading", "struct", "left_out"), TABLES_OF_SETTINGS)
def test_every_setting_is_documented_and_no_other(heading: str, struct: Any, left_out: set[str]) -> None:
    assert sorted(rows_of_settings(heading)) == sorted({*settings(struct)} - left_out)


@pytest.mark.parametrize(("heading", "struct", "left_out"), TABLES_OF_SETTINGS)
def test_the_line_of_a_setting_begins_with_the_summary_of_its_field(
    heading: str, struct: Any, left_out: set[str]
) -> None:
    rows = rows_of_settings(heading)
    summaries = {name: field.setting.summary for name, field in fields(struct).items() if field.setting is not None}
    assert {name: rows[name][1][: len(summary)] for name, summary in summaries.items()} == summaries


@pytest.mark.parametrize(("heading", "struct", "left_out"), TABLES_OF_SETTINGS)
def test_a_default_that_is_documented_as_a_value_is_the_default_of_the_field(
    heading: str, struct: Any, left_out: set[str]
) -> None:
    for name, (cell, _) in rows_of_settings(heading).items():
        field = fields(struct)[name]
        value = re.fullmatch(r"`([^`]*)`", cell)
        if value is None or field.default is None:  # in words, or taken from another table
            assert field.required or field.default in (None, DEFAULT_REFSPECS), name
        else:
            written = tomllib.loads(f"it = {value[1]}")["it"]
            assert msgspec.convert(written, field.kind, dec_hook=decode_unit) == field.default, name


def test_every_option_and_variable_is_documented() -> None:
    text = page("configuration")
    options = [f"--{option[0]}" for option in (*Options.optParameters, *Options.optFlags)]
    variables = {each.variable for table in (model.Config, model.FileTable) for _, each in all_settings(table)} - {None}
    assert len(variables) > 5
    assert [each for each in (*options, *variables, "STACKIT_CONFIG") if f"`{each}`" not in text] == []


def test_the_table_of_overrides_names_each_option_and_variable_beside_its_setting() -> None:
    rows = re.findall(r"^\|(.*)\|(.*)\| `([a-z_.]+)` \|$", page("configuration"), re.MULTILINE)
    documented = {name: (option.strip(" `-"), variable.strip(" `")) for option, variable, name in rows}
    overrides = {name: each for name, each in all_settings(model.FileTable) if each.option or each.variable}
    assert documented == {name: (each.option or "", each.variable or "") for name, each in overrides.items()}


def test_every_shell_command_is_documented() -> None:
    commands = [*COMMANDS, *Mirror().stackit_commands()]
    assert [each.name for each in commands if f"stackit {each.name}" not in page("shell")] == []


def _as_scraped(family: Any) -> str:
    """A metric's name as it stands in an answer: the parser takes the end of a counter's off."""
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def test_every_metric_is_documented_and_no_other() -> None:
    answer = Scraped().response()
    families = text_string_to_metric_families(answer.body.decode())
    exposed = {_as_scraped(each) for each in families}
    text = section(page("operations"), "## Metrics")
    documented = re.findall(r"^\| `(stackit_\w+)` \|", text, re.MULTILINE)
    documented += re.findall(r"`((?:process|python)_\w+)`", text)
    assert sorted(documented) == sorted(name for name in exposed if not name.endswith("_created"))


def test_every_alert_of_the_file_is_documented_and_no_other_and_none_is_written_twice() -> None:
    text = section(page("operations"), "## Alerts worth having")
    alerts = re.findall(r"- alert: (\w+)$", (ROOT / "contrib/prometheus/rules.yml").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == alerts
    assert len(alerts) > 10
    copies = [path.name for path in PAGES if re.search(r"^ *(- alert|expr):", path.read_text("utf-8"), re.MULTILINE)]
    assert copies == []


def test_every_metric_of_a_fleet_is_documented_and_no_other() -> None:
    fleet = Fleet(
        Server(""),
        Candidate(name="a", address="", version="", schema=1, roles=(), lease=5.0),
        Ownership(0, 1),
        clock=FleetClock(Reading(0.0, 0.0, 0.0), seconds=float, wall_clock=float, notice=list),
        reactor=cast("Any", MemoryReactorClock()),
        rehome_after=600.0,
        copies=1,
        notice=list,
        entered=list,
        reconnected=list,
    )
    collectors = (
        FleetMetrics(fleet, lambda: DatabaseState("15.4", 0, 1, None)),
        WriterMetrics(SimpleNamespace(written=0, commits=0, commit_seconds=0.0, waiting=0)),
        PeerMetrics(lambda: {"answered": 0}, lambda: {"served": 0}),
    )
    exposed = [_as_scraped(family) for each in collectors for family in each.collect()]
    text = section(page("fleet"), "## Metrics")
    assert re.findall(r"^\| `(stackit_\w+)` \|", text, re.MULTILINE) == exposed


def test_every_alert_of_a_fleet_is_documented_and_no_other() -> None:
    text = section(page("fleet"), "## Alerts")
    alerts = re.findall(r"- alert: (\w+)$", (ROOT / "contrib/prometheus/fleet.yml").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == alerts
    assert len(alerts) > 4


def test_every_occurrence_is_documented_with_its_text_and_level_and_no_other() -> None:
    text = section(page("operations"), "## Log lines")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| ([a-z]+)[^|]* \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((name, each.summary, each.level) for name, each in OCCURRENCES.items())


def test_every_reason_of_a_refusal_is_documented() -> None:
    text = section(page("http-api"), "### The webhook")
    assert [reason for reason in get_args(RefusalReason) if f"`{reason}`" not in text] == []


def test_every_public_name_is_in_the_plugin_authors_list() -> None:
    text = section(page("plugins"), "## Names to import")
    assert [name for name in stackit.__all__ if not re.search(rf"`{name}[`.(]", text)] == []


def test_every_public_name_of_the_test_kit_is_in_its_reference() -> None:
    text = page("testing")
    assert [name for name in stackit.testing.__all__ if not re.search(rf"`(?:await )?{name}[`(]", text)] == []


def _members(kind: type) -> set[str]:
    """The public methods and attributes of a class, and of those of stackit that it is derived from."""
    found: set[str] = set()
    for each in kind.__mro__:
        if each.__module__.startswith("stackit."):
            found |= {name for name in (*vars(each), *vars(each).get("__annotations__", {})) if name[0] != "_"}
            found |= set(re.findall(r"^        self\.([a-z]\w*)(?::.*)? = ", inspect.getsource(each), re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## A running stackit", stackit.testing.RunningStackit),
        ("## The pretend GitHub", stackit.testing.PretendGitHub),
    ],
)
def test_every_member_of_the_test_kits_servers_is_in_its_reference_and_no_other(heading: str, kind: type) -> None:
    table = section(page("testing"), heading).partition("\n\n| name |")[0]
    first = "\n".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(?:await )?(\w+)[`(]", first)) == _members(kind)


@pytest.mark.parametrize("kind", ["Answer", "Commit", "DeliverySent", "RefMoved", "SignedDelivery"])
def test_every_field_of_the_test_kits_values_is_in_its_reference(kind: str) -> None:
    (row,) = re.findall(rf"^\| `{kind}` \| (.*)$", page("testing"), re.MULTILINE)
    struct = getattr(stackit.testing, kind)
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in row] == []


@pytest.mark.parametrize("name", ["event", "push_event", "refs_changed", "payload_for", "delivery", "signature"])
def test_the_arguments_of_a_function_of_the_test_kit_are_those_in_its_reference(name: str) -> None:
    (written,) = re.findall(rf"^\| `{name}\((.*?)\)` \|", page("testing"), re.MULTILINE)
    arguments = [each.partition("=")[0].strip() for each in re.split(r", (?![^\"]*\"\*)", written)]
    assert arguments == list(inspect.signature(getattr(stackit.testing, name)).parameters)


def test_every_fault_of_the_pretend_github_is_in_the_reference() -> None:
    (row,) = re.findall(r"^\| `fault\(.*$", page("testing"), re.MULTILINE)
    kinds = [f'"{kind}"' if isinstance(kind, str) else str(kind) for kind in get_args(FaultKind)]
    assert [kind for kind in kinds if f"`{kind}`" not in row] == []


# -- sound ------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_inside_the_documentation_leads_somewhere(path: Any) -> None:
    text = path.read_text("utf-8")
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if target.startswith(("http:", "https:")):
            continue
        found = (path.parent / file) if file else path
        if not found.exists() or (anchor and anchor not in anchors(found.read_text("utf-8"))):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_example_can_be_read_by_what_it_is_for(path: Any) -> None:
    text = path.read_text("utf-8")
    for example in blocks(text, "python"):
        compile(example, path.name, "exec")
    for example in blocks(text, "toml"):
        tomllib.loads(example)


def commands_of_the_shell() -> Iterator[tuple[str, str]]:
    """Each ``stackit …`` in a block of the shell or in a line of code, with its page; not those that are synopses."""
    for path in PAGES:
        text = path.read_text("utf-8")
        lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`((?:python -m )?stackit [a-z-]+ [^`]*)`", text)
        for line in lines:
            found = re.search(r"(?:^|\| |/|-m )stackit ([a-z][^|>\\\\]*)", line.strip().partition(" #")[0])
            is_synopsis = found is not None and ("[" in found[1] or re.search(r"\b[A-Z]{2,}", found[1]))
            if found is not None and not is_synopsis and "twistd" not in line:
                yield path.name, found[1].strip()


SHELL = load_commands(None, {}, Path("/nonexistent"))[0]


@pytest.mark.parametrize(("where", "line"), sorted(set(commands_of_the_shell())))
def test_every_command_line_of_the_documentation_is_understood(where: str, line: str) -> None:
    assert parse(shlex.split(line), SHELL).command == line.split(maxsplit=1)[0]


@pytest.mark.parametrize(("where", "heading"), [("configuration", "## Example"), ("getting-started", "## 2. ")])
def test_the_example_of_a_configuration_is_one_but_for_its_files(tmp_path: Path, where: str, heading: str) -> None:
    full = next(line for line in page(where).splitlines() if line.startswith(heading))
    (example,) = blocks(section(page(where), full), "toml")
    (tmp_path / "secret").write_text("hush")
    file = tmp_path / "twistd.conf"
    file.write_text(re.sub(r"/run/credentials/stackit.service/[\w-]+", str(tmp_path / "secret"), example))
    loaded = load({"config": str(file)}, {}, cwd=tmp_path)
    assert [str(each.repo) for each in loaded.repos] == ["octo/widget"]


def test_the_first_screen_of_the_readme_is_one_screen() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert next(number for number, line in enumerate(lines) if line.startswith("## ")) <= 40


PLUGINS = [block for block in blocks(page("plugins"), "python") if re.match(r"# (?!test_)\w+\.py\n", block)]


@pytest.mark.parametrize("example", PLUGINS, ids=lambda block: block.partition("\n")[0])
def test_every_plugin_of_the_tutorial_is_one_that_stackit_takes(example: str, tmp_path: Path) -> None:
    file = example.partition("\n")[0].removeprefix("# ")
    (tmp_path / file).write_text(example)
    (kind,) = re.findall(r"^class (\w+)", example, re.MULTILINE) or [""]
    settings: dict[str, Any] = {"Diary": {"path": "diary.txt"}, "Chat": {"url": "http://127.0.0.1/"}}.get(kind, {})
    bus = Bus()
    table = {"file": f"{file}:{kind}" if kind else file, **settings}
    assert load_plugins(bus, {"mine": table}, directory=tmp_path, installed=()) == []
    assert bus.subscribers()


# -- tried ------------------------------------------------------------------------


def test_the_tests_of_the_tutorial_and_of_the_test_kits_reference_pass(tmp_path: Path) -> None:
    pages = (page("plugins"), page("testing"))
    for example in (block for text in pages for language in ("python", "toml") for block in blocks(text, language)):
        name = re.match(r"# ([\w.]+)\n", example)
        if name:
            (tmp_path / name[1]).write_text(example)  # a later version replaces an earlier one
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_the_steps_of_the_tutorial_come_in_their_order() -> None:
    steps = re.findall(r"^## (\d)\.", page("plugins"), re.MULTILINE)
    assert all(int(later) == int(earlier) + 1 for earlier, later in pairwise(steps))
