"""A reload: every setting has its place, all steps are taken or none, and no door is opened by what has to wait."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stackit.api.errors import ConfigError, StackitError
from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo, Repos
from stackit.config.changes import all_settings, differing, fixed_settings, replaced
from stackit.config.model import AdminConfig, Config, HandlersConfig
from stackit.config.secret import Secret
from stackit.reload.parts import register_parts
from stackit.reload.reloader import Prepare, Reloader, Step
from stackit.text.units import Duration


def config(**more: Any) -> Config:
    return Config(state_dir=Path("/nowhere"), source=Path("/etc/stackit.toml"), **more)


def reloader(*parts: Prepare, **more: Any) -> Reloader:
    made = Reloader(config(**more))
    for prepare in parts:
        made.takes(prepare, "handlers.timeout")
    return made


OTHER = config(handlers=HandlersConfig(timeout=Duration(7)))


def noting(notes: list[str], name: str, problem: StackitError | None = None) -> Prepare:
    """A part whose step notes what is done to it, and refuses with a problem."""

    def apply() -> None:
        if problem is not None:
            raise problem
        notes.append(f"{name} applied")

    return lambda _, __, ___: [Step(apply=apply, undo=lambda: notes.append(f"{name} undone"), changes=[name])]


def test_every_setting_is_taken_by_one_part_or_needs_a_restart() -> None:
    made = Reloader(config())
    nobody: Any = None  # a part touches what it belongs to when something changes
    register_parts(
        made,
        bus=nobody,
        redact=nobody,
        public=nobody,
        admin=nobody,
        sessions=nobody,
        dispatch=nobody,
        journal=nobody,
        registry=nobody,
        configured=nobody,
        notice=nobody,
        on_secret=nobody,
        set_log_level=nobody,
        check_token=nobody,
        github=nobody,
    )
    taken, fixed = set(made.taken()), fixed_settings()
    assert taken | fixed == set(all_settings())
    assert taken & fixed == set()


def test_the_documentation_names_what_needs_a_restart_and_nothing_else() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    first = page.partition("\n## Reload\n")[2].strip().partition("\n\n")[0]
    named = first.partition("which need a restart:")[2]
    of_environment = {"webhook_secret", "api_token"}
    assert set(re.findall(r"`([a-z_.]+)`", named)) == fixed_settings() - of_environment


def test_a_setting_that_differs_is_found_wherever_it_is() -> None:
    old = config()
    for name, value in (("grace", 3.0), ("webhook.max_body", 7), ("repos", ("x",)), ("plugins", {"x": {}})):
        assert differing(old, replaced(old, name, value)) == [name]
    assert differing(old, old) == []


def test_all_steps_are_taken_in_their_order() -> None:
    notes: list[str] = []
    made = reloader(noting(notes, "one"), noting(notes, "two"))
    outcome = made.reload(OTHER)
    assert notes == ["one applied", "two applied"]
    assert list(outcome.changes) == ["one", "two"]
    assert made.config == OTHER
    assert made.reload(OTHER).changes == []
    assert len(notes) == 2


def test_when_one_step_refuses_those_before_it_are_taken_back() -> None:
    notes: list[str] = []
    refusal = ConfigError("no")
    made = reloader(noting(notes, "one"), noting(notes, "two"), noting(notes, "three", refusal), noting(notes, "four"))
    with pytest.raises(ConfigError, match="no"):
        made.reload(OTHER)
    assert notes == ["one applied", "two applied", "two undone", "one undone"]
    assert made.config == config()


def test_a_part_that_finds_a_mistake_is_asked_before_any_step_is_taken() -> None:
    notes: list[str] = []

    def mistaken(*_: Any) -> list[Step]:
        raise ConfigError("wrong")

    made = reloader(noting(notes, "one"), mistaken)
    with pytest.raises(ConfigError, match="wrong"):
        made.reload(OTHER)
    assert notes == []


def test_what_needs_a_restart_stays_and_is_named_again() -> None:
    made = reloader()
    wanted = config(grace=Duration(3), listen="tcp:9:interface=127.0.0.1")
    for _ in range(2):
        assert sorted(made.reload(wanted).restart) == ["grace", "listen"]
        assert made.config == config()


def test_a_token_cannot_be_taken_from_an_admin_side_that_others_reach_until_the_restart() -> None:
    """The new file is right by itself: it listens on loopback, and needs no token."""
    made = Reloader(config(admin=AdminConfig(listen="tcp:8081", token_files=(Path("/token"),))))
    made.takes(lambda *_: [Step()], "admin.token_files")
    with pytest.raises(ConfigError, match="token"):
        made.reload(config())
    assert made.config.admin.token_files == (Path("/token"),)


def test_a_file_that_is_gone_is_not_an_empty_one() -> None:
    made = Reloader(config())
    with pytest.raises(ConfigError, match=r"/etc/stackit\.toml: is gone"):
        made.reload(Config(state_dir=Path("/nowhere")))


def test_secrets_of_the_environment_are_those_of_the_start() -> None:
    made = Reloader(config(webhook_secret=Secret("one")))
    assert made.reload(config(webhook_secret=Secret("two"))).restart == ["webhook_secret"]
    assert made.config.webhook_secret == "one"


def managed(name: str, url: str = "https://example.org/x.git") -> ManagedRepo:
    return ManagedRepo(repo=Repo.parse(name), url=url)


def test_the_registry_tells_what_came_what_went_and_what_changed() -> None:
    repos = Repos([managed("octo/a"), managed("octo/b"), managed("octo/c")])
    heard: list[Any] = []
    repos.on_change(heard.append)
    new = [managed("octo/d"), managed("octo/c", "https://example.org/y.git"), managed("octo/a")]
    repos.replace(new)
    (change,) = heard
    assert [[str(each.repo) for each in found] for found in (change.added, change.removed, change.changed)] == [
        ["octo/d"],
        ["octo/b"],
        ["octo/c"],
    ]
    assert list(repos) == new


def test_a_listener_that_fails_keeps_the_change_from_no_other() -> None:
    repos = Repos()
    heard: list[Any] = []

    def failing(_: Any) -> None:
        raise SystemExit

    repos.on_change(failing)
    repos.on_change(heard.append)
    repos.replace([managed("octo/a")])
    assert len(heard) == 1
