"""The forges of a configuration: which are loaded, and what is said of those that cannot be."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from stackit import Claim, Event, Repo
from stackit.api.errors import ConfigError
from stackit.api.forge import GITHUB, Forge, Forges, qualified_hook
from stackit.config.access import Access, HostTable, OwnerTable, RepoTable, access, managed_repos
from stackit.config.forges import BUILT_IN, GROUP, load_forges
from stackit.github import GitHub


class Depot:
    """A forge with a setting."""

    name = "depot"

    class Settings(msgspec.Struct, frozen=True):
        host: str = "depot.example.org"
        certificate: Path | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def mac(self, secret: bytes) -> hmac.HMAC:
        return hmac.new(secret, digestmod="sha512")

    def claim(self, headers: Any) -> Claim | None:
        return None

    def delivery(self, headers: Any) -> str:
        return ""

    def hook(self, headers: Any) -> str:
        return ""

    def decode(self, headers: Any, body: bytes, **fields: Any) -> Any:
        return "shape"

    def is_ping(self, event: Event) -> bool:
        return event.name == "test"

    def doubt(self, name: str, action: str | None) -> str | None:
        return None if name == "issue" else "a depot sends no such event"

    def restore(self, name: str, body: bytes, **fields: Any) -> Event | None:
        return Event(name=name, body=body, **fields)

    def repo(self, name: str) -> Repo:
        return Repo.parse(f"{self.settings.host}/{name}")

    def clone_url(self, repo: Repo) -> str:
        return f"https://{repo}.git"


class Raises(Depot):
    def __init__(self) -> None:
        raise SystemExit("I quit")

    Settings = None  # type: ignore[assignment]  # wrong on purpose


class Lacking:
    name = "depot"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made = ModuleType("some_forges")
    for each in (Depot, Raises, Lacking, Scales, Steps):
        setattr(made, each.__name__, each)
    monkeypatch.setitem(sys.modules, "some_forges", made)
    return "some_forges"


def point(module: str, target: str, name: str = "depot") -> EntryPoint:
    return EntryPoint(name=name, value=f"{module}:{target}", group=GROUP)


def loaded(points: list[EntryPoint], tables: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Any:
    return load_forges(tables, environ or {}, Path("/etc/stackit.toml"), points)


def test_an_installed_forge_is_there_without_a_table_and_has_the_secret_of_its_variable(module: str) -> None:
    (found,), problems = loaded([point(module, "Depot")], {}, {"STACKIT_DEPOT_WEBHOOK_SECRET": " hush \n"})
    assert (found.forge.name, found.named, problems) == ("depot", False, [])
    assert (found.secret, found.secret_files) == ("hush", ())
    assert "hush" not in repr(found)


def test_a_table_has_secret_files_and_the_settings_of_the_forge(module: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    table = {"secret_files": [str(tmp_path / "secret")], "host": "git.example.org", "certificate": "ca.pem"}
    (found,), _ = loaded([point(module, "Depot")], {"depot": table})
    assert (found.named, found.secret_files) == (True, (tmp_path / "secret",))
    assert found.forge.settings == Depot.Settings("git.example.org", Path("/etc/ca.pem"))


@pytest.mark.parametrize(
    ("target", "table", "reason"),
    [
        ("Depot", {"hosst": "x"}, "forges.depot.hosst: unknown key; did you mean host?"),
        ("Depot", {"host": 1}, "forges.depot.host: expected text in quotes"),
        ("Depot", {"secret_files": ["/nothing/there"]}, "forges.depot.secret_files: /nothing/there cannot be read"),
        ("Depot", 1, "forges.depot: expected a table"),
        ("Raises", {}, "some_forges:Raises cannot be used: SystemExit: I quit"),
        ("Raises", {"host": "x"}, "has host, but the forge takes no settings"),
        (
            "Lacking",
            {},
            "it lacks mac, claim, delivery, hook, decode, is_ping, restore, doubt, repo, clone_url",
        ),
        ("Missing", {}, "some_forges:Missing cannot be used: AttributeError"),
    ],
)
def test_a_table_of_a_forge_that_cannot_be_is_an_error_that_says_why(
    module: str, target: str, table: Any, reason: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded([point(module, target)], {"depot": table})
    assert str(refused.value).startswith("/etc/stackit.toml: forges.depot")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("depto", "no installed package has a forge of that name (there are: depot, github)"),
        ("github", "GitHub is always there; its secrets are secret_files in [webhook]"),
    ],
)
def test_a_table_of_a_forge_that_is_not_installed_is_an_error(module: str, name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded([point(module, "Depot")], {name: {}})
    assert reason in str(refused.value)


def test_a_broken_forge_that_nobody_named_is_left_out_with_its_reason(module: str) -> None:
    points = [point(module, "Raises"), point(module, "Depot", "other"), point(module, "Depot", "github")]
    found, problems = loaded(points, {})
    assert found == []
    assert ["I quit" in problems[0], "GitHub is always there" in problems[1], "is called 'other'" in problems[2]] == [
        True
    ] * 3


class Scales(Depot):
    """A forge whose name the environment cannot tell from that of ``Steps``."""

    name = "de-pot"


class Steps(Depot):
    name = "de_pot"


TWINS = ("Scales", "de-pot"), ("Steps", "de_pot")


@pytest.mark.parametrize("tables", [{}, {"de-pot": {}}, {"de-pot": {}, "de_pot": {}}])
def test_one_variable_is_never_the_secret_of_two_forges(module: str, tables: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded([point(module, *each) for each in TWINS], tables, {"STACKIT_DE_POT_WEBHOOK_SECRET": "hush"})
    assert str(refused.value).startswith(
        "STACKIT_DE_POT_WEBHOOK_SECRET: is the secret of two forges, de-pot and de_pot;"
    )
    assert "hush" not in str(refused.value)


def test_two_forges_that_share_the_name_of_a_variable_may_have_files(module: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hush")
    tables = {name: {"secret_files": [str(tmp_path / "a")]} for _, name in TWINS}
    found, problems = loaded([point(module, *each) for each in TWINS], tables, {"STACKIT_DE_POT_WEBHOOK_SECRET": " "})
    assert ([each.forge.name for each in found], problems) == (["de-pot", "de_pot"], [])


def test_of_two_forges_with_one_name_neither_wins_and_both_are_named(module: str) -> None:
    points = [point(module, "Depot"), point(module, "Raises")]
    for order in (points, points[::-1]):
        found, (problem,) = loaded(order, {})
        assert found == []
        assert "forges.depot: several installed packages have a forge of that name: " in problem
        assert f"{module}:Depot and {module}:Raises; keep one" in problem
        with pytest.raises(ConfigError, match=f"{module}:Depot and {module}:Raises"):
            loaded(order, {"depot": {}})


def test_a_forge_that_two_packages_name_alike_is_one(module: str) -> None:
    (found,), problems = loaded([point(module, "Depot")] * 2, {})
    assert (found.forge.name, problems) == ("depot", [])


def test_two_forges_with_one_name_are_told_by_the_packages_that_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("one", "two"):
        info = tmp_path / f"{package}_forge-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}-forge\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\ndepot = {package}:Depot\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="one:Depot of one-forge and two:Depot of two-forge; keep one"):
        load_forges({"depot": {}}, {}, None)


def test_github_is_loaded_like_any_other_forge() -> None:
    assert isinstance(BUILT_IN.load()(), GitHub)
    assert isinstance(GitHub(), Forge)
    assert GitHub.name == BUILT_IN.name == GITHUB


# -- repositories -----------------------------------------------------------------

FORGES: dict[str, Forge] = {GITHUB: GitHub(), "depot": Depot(Depot.Settings())}


def managed(*tables: RepoTable, owners: Any = (), hosts: Any = ()) -> Any:
    return managed_repos(tables, access(owners, hosts, str), str, FORGES)


def test_a_repository_of_another_forge_has_its_host_and_the_url_that_the_forge_gives_it() -> None:
    (found,) = managed(RepoTable(name="group/sub/widget", forge="depot"))
    assert found.repo == Repo("group/sub", "widget", "depot.example.org")
    assert found.url == "https://depot.example.org/group/sub/widget.git"


def test_repositories_of_one_name_on_two_forges_are_two() -> None:
    assert len(managed(RepoTable(name="octo/widget"), RepoTable(name="octo/widget", forge="depot"))) == 2


def test_the_token_of_an_owner_on_github_is_not_sent_to_another_forge(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush")
    owners = (OwnerTable(name="octo", token_file=tmp_path / "token"),)
    github, depot = managed(RepoTable(name="octo/a"), RepoTable(name="octo/a", forge="depot"), owners=owners)
    assert (github.token_file, depot.token_file) == (tmp_path / "token", None)
    hosts = (HostTable(name="depot.example.org", token_file=tmp_path / "token"),)
    github, depot = managed(RepoTable(name="octo/a"), RepoTable(name="octo/a", forge="depot"), hosts=hosts)
    assert (github.token_file, depot.token_file) == (None, tmp_path / "token")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (
            RepoTable(name="octo/widget", forge="depto"),
            "repos[1].forge: no forge is called 'depto' (there are: ",
        ),
        (RepoTable(name="../etc", forge="depot"), "repos[1].name: not a repository name"),
        (RepoTable(name="group/sub/widget"), "repos[1].name: not a repository name"),
        (RepoTable(name="depot.example.org/a/b"), "repos[1].name: not a repository name"),
        (RepoTable(name="octo/widget.git"), "repos[1].name: a repository's name has no .git at its end"),
    ],
)
def test_a_repository_that_its_forge_does_not_allow_is_an_error_at_its_name(table: RepoTable, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        managed(table)
    assert str(refused.value).startswith(reason)


class Strange(Depot):
    def repo(self, name: str) -> Repo:
        known = {"ours": Repo("octo", "widget"), "bad": Repo("..", "x", "h.example")}
        if name not in known:
            raise ZeroDivisionError("division by zero")
        return known[name]


@pytest.mark.parametrize("name", ["ours", "bad", "other"])
def test_a_forge_that_makes_nonsense_of_a_name_is_named_in_one_line(name: str) -> None:
    forges: dict[str, Forge] = {"depot": Strange(Depot.Settings())}
    with pytest.raises(ConfigError) as refused:
        managed_repos([RepoTable(name=name, forge="depot")], Access(), str, forges)
    assert str(refused.value).startswith("repos[1].name: ")


# -- events -----------------------------------------------------------------------


def test_an_event_belongs_to_the_forge_that_its_hook_tells() -> None:
    forges = Forges(FORGES.values())
    assert [forge.name for forge in forges] == ["github", "depot"]
    assert [qualified_hook(forge, "7") for forge in forges] == ["7", "depot:7"]
    fields: dict[str, Any] = {"id": "1", "delivery": "d", "received_at": 1.0, "body": b"{}"}
    for hook, pings in (("", "ping"), ("7", "ping"), ("depot:", "test"), ("depot:7", "test")):
        events = [Event(name=name, hook=hook, **fields) for name in ("ping", "test")]
        assert [each.name for each in events if forges.is_ping(each)] == [pings]


def test_an_event_is_doubted_where_no_forge_is_known_to_send_it() -> None:
    forges = Forges(FORGES.values())
    assert [forges.doubt(name, None) for name in ("push", "issue")] == [None, None]
    assert "stackit knows no event" in (forges.doubt("pussh", None) or "")
    assert "a depot sends no such event" in (forges.doubt("pussh", None) or "")


def test_an_event_whose_forge_is_not_installed_any_more_says_so() -> None:
    with pytest.raises(Exception, match="the forge depot is not installed"):
        Forges([GitHub()]).restore("push", b"{}", id="1", delivery="d", hook="depot:1", received_at=1.0)
