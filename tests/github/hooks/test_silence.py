"""Webhooks that are silent, and alarms that are raised once."""

from __future__ import annotations

from twisted.internet.task import Clock

from stackit import Occurrence, Repo
from stackit.api.events import RefChange
from stackit.api.repos import ManagedRepo, Repos
from stackit.github.hooks.alarms import HookAlarms
from stackit.github.hooks.faults import Fault
from stackit.github.hooks.silence import LATE, Silence, faults_by_target
from stackit.github.hooks.target import HookTarget

WIDGET, GADGET, FOREIGN = Repo("octo", "Widget"), Repo("octo", "gadget"), Repo("acme", "other")
INTERVAL = 300.0


class Watched:
    """A silence with two managed repositories, of which ``WIDGET`` has an App."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(10_000)
        repos = Repos([ManagedRepo(repo=each, url="https://x.example.org/x") for each in (WIDGET, GADGET)])
        self.silence = Silence(repos, self.clock.seconds, INTERVAL)

    def pushed(self, repo: Repo, **more: object) -> None:
        self.silence.observe(Occurrence(name="accepted", event="push", repo=repo, **more))  # type: ignore[arg-type]

    def found(self, repo: Repo, ref: str = "refs/heads/main", cause: str = "backstop") -> None:
        change = RefChange(ref, "0" * 40, "1" * 40, "updated")
        self.silence.observe(Occurrence(name="refs_changed", repo=repo, cause=cause, changes=(change,)))

    def silent(self) -> list[Repo]:
        return self.silence.silent()


def test_a_push_that_only_the_backstop_found_is_silence_once_a_delivery_would_be_late() -> None:
    watched = Watched()
    watched.found(WIDGET)
    assert watched.silent() == []
    watched.clock.advance(LATE)
    assert watched.silent() == [WIDGET]


def test_a_delivery_ends_the_silence_also_a_late_one() -> None:
    watched = Watched()
    watched.found(WIDGET)
    watched.clock.advance(LATE)
    watched.pushed(Repo("OCTO", "widget"))
    assert watched.silent() == []
    watched.clock.advance(INTERVAL + LATE + 1)
    watched.found(WIDGET)
    watched.clock.advance(LATE)
    assert watched.silent() == [WIDGET]


def test_a_push_that_a_delivery_told_of_a_moment_ago_is_none() -> None:
    watched = Watched()
    watched.pushed(WIDGET)
    watched.clock.advance(INTERVAL)
    watched.found(WIDGET)
    watched.clock.advance(LATE)
    assert watched.silent() == []


def test_what_no_delivery_tells_of_is_no_silence() -> None:
    watched = Watched()
    watched.found(WIDGET, "refs/stackit/1")
    watched.found(WIDGET, "refs/tags/v1")
    watched.found(WIDGET, cause="start")
    watched.found(WIDGET, cause="manual")
    watched.found(FOREIGN)
    watched.clock.advance(LATE)
    assert watched.silent() == []


def test_a_delivery_that_was_taken_from_githubs_list_ends_no_silence() -> None:
    watched = Watched()
    watched.found(WIDGET)
    watched.pushed(WIDGET, via="api")
    watched.clock.advance(LATE)
    assert watched.silent() == [WIDGET]


def test_the_nearest_webhook_that_should_have_told_is_named() -> None:
    repo, owner, app = HookTarget("repo", "octo/widget"), HookTarget("owner", "octo"), HookTarget("app", "Main")
    everything = {each.key: each for each in (repo, owner, app)}

    def app_of(repo: Repo) -> str | None:
        return "Main" if repo == WIDGET else None

    by_target = faults_by_target([WIDGET, GADGET], everything, app_of)
    assert {key: fault.text.partition(",")[0] for key, fault in by_target.items()} == {
        "repo:octo/widget": "is silent: the backstop found pushes in octo/Widget",
        "owner:octo": "is silent: the backstop found pushes in octo/gadget",
    }
    assert by_target["owner:octo"].mend.endswith("stackit hook ping octo")
    assert list(faults_by_target([WIDGET, GADGET], {"owner:octo": owner}, app_of)) == ["owner:octo"]
    assert (
        "octo/Widget and 1 more" in faults_by_target([WIDGET, GADGET], {"owner:octo": owner}, app_of)["owner:octo"].text
    )
    assert list(faults_by_target([WIDGET, GADGET], {"app:main": app}, app_of)) == ["app:main"]
    assert faults_by_target([WIDGET], {}, app_of) == {}


def test_an_alarm_is_raised_once_and_its_end_is_told() -> None:
    told: list[str] = []
    alarms = HookAlarms(told.append)
    target = HookTarget("repo", "octo/widget")
    off = Fault("inactive", "is switched off", "stackit hook update octo/widget")
    silent = Fault("silent", "is silent", "stackit hook ping octo/widget")
    unseen = Fault("unchecked", "cannot be looked at: no", "stackit hook check octo/widget")
    for _ in range(3):
        alarms.take(target, [off], about=("inactive", "unchecked"))
    alarms.take(target, [silent], about=("silent",))
    alarms.take(target, [unseen], about=("unchecked",))
    assert told == [off.line(target), silent.line(target)]
    assert alarms.problems() == told
    assert alarms.counts()["inactive"] == alarms.counts()["silent"] == alarms.counts()["unchecked"] == 1
    alarms.take(target, [], about=("inactive", "unchecked"))
    assert told[2:] == ["over: the webhook of octo/widget is switched off"]
    assert alarms.problems() == [silent.line(target)]
    alarms.forget([])
    assert alarms.problems() == []
    assert not any(alarms.counts().values())
    assert len(told) == 3


def test_the_metric_has_every_fault_from_the_start() -> None:
    (family,) = HookAlarms(print).collect()
    found = {sample.labels["fault"]: sample.value for sample in family.samples}
    assert {"missing", "deleted", "inactive", "elsewhere", "silent", "events"} < set(found)
    assert not any(found.values())
