"""The alerts of contrib/prometheus stand on series that a real stackit has from its start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from alert_rules import cases, counted, rules, selectors
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred

from stackit import OCCURRENCES
from stackit.github.apps.apps import ROUTES
from stackit.plugins.mirror.sync.fallback import REASONS
from stackit.plugins.mirror.sync.status import STATES
from stackit.testing import RunningStackit

PLUGIN = """
from stackit import on

@on("*")
def deploy(event):
    pass
"""


class Fresh:
    """The metrics of a stackit that has just started: two secrets, a handler of each kind, a repository."""

    def __init__(self, families: list[Metric], secret: Path) -> None:
        self.samples = [sample for family in families for sample in family.samples]
        self.secrets = [str(secret), "STACKIT_GITHUB_WEBHOOK_SECRET"]

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of the series of this name that have these labels, and perhaps others."""
        return [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    directory = tmp_path_factory.mktemp("fresh")
    secret = directory / "next-secret"
    secret.write_text("a-secret-that-nobody-uses-yet")
    (directory / "deploy.py").write_text(PLUGIN)
    (directory / "token").write_text("a-personal-token")
    # It takes connections, and answers none: no request has ended yet, however late the scrape is.
    silent = socket.create_server(("127.0.0.1", 0))
    key = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "app.pem").write_bytes(key)
    server = RunningStackit(
        reactor,
        directory,
        config={
            "sync": {"interval": "0"},
            "webhook": {"secret_files": [secret]},
            "repos": [
                {"name": "octo/widget", "url": "http://127.0.0.1:1/octo/widget.git", "token_file": directory / "token"}
            ],
            "apps": [
                {
                    "name": "main",
                    "app_id": 1,
                    "private_key_file": directory / "app.pem",
                    "api_url": f"http://127.0.0.1:{silent.getsockname()[1]}/api/v3",
                }
            ],
            "discover": [{"app": "main"}],
            "plugins": {"deploy": {"file": str(directory / "deploy.py")}},
        },
    )

    async def scrape() -> list[Metric]:
        try:
            await server.start()
            text = (await server.admin("GET", "/metrics")).body.decode()
        finally:
            await server.stop()
            silent.close()
        return list(text_string_to_metric_families(text))

    return Fresh(pytest_twisted.blockon(Deferred.fromCoroutine(scrape())), secret)


RULES = [pytest.param(rule["expr"], id=rule["alert"]) for rule in rules()]


@pytest.mark.parametrize("expression", RULES)
def test_every_series_that_a_rule_names_is_there_right_after_the_start(fresh: Fresh, expression: str) -> None:
    named = [each for each in selectors(expression) if each[0] != "up"]
    assert [each for each in named if not fresh.values(each[0], **each[1])] == []


@pytest.mark.parametrize("expression", RULES)
def test_whatever_a_rule_counts_begins_at_0(fresh: Fresh, expression: str) -> None:
    assert [each for each in counted(expression) if any(fresh.values(each[0], **each[1]))] == []


def test_every_counter_begins_at_0(fresh: Fresh) -> None:
    counters = [each for each in fresh.samples if each.name.startswith("stackit_") and each.name.endswith("_total")]
    assert len(counters) > 60
    begun = {each.name for each in counters if each.value}
    assert begun <= {"stackit_occurrences_total"}  # the notices of the start


def known_series(fresh: Fresh) -> Iterator[tuple[str, dict[str, str]]]:
    """Every series whose labels are known at the start."""
    for reason in OCCURRENCES["refused"].values["reason"]:
        yield "stackit_requests_refused_total", {"reason": reason}
    for subscriber in ("deploy", "mirror"):
        for outcome in ("done", "failed", "dead"):
            yield "stackit_handlings_total", {"subscriber": subscriber, "outcome": outcome}
        for name in ("handling_seconds_count", "handlings_pending", "handlings_stalled_seconds"):
            yield f"stackit_{name}", {"subscriber": subscriber}
    for event, outcome in (("push", "queued"), ("push", "duplicate"), ("ping", "ping"), ("other", "unrecognised")):
        yield "stackit_deliveries_total", {"event": event, "outcome": outcome}
    for secret in fresh.secrets:
        yield "stackit_deliveries_verified_total", {"secret": secret}
        yield "stackit_webhook_secret_valid", {"secret": secret, "forge": "github"}
    for cause, outcome in product(
        ("push", "backstop", "manual", "start"), ("changed", "unchanged", "failed", "timeout")
    ):
        yield "stackit_mirror_syncs_total", {"cause": cause, "outcome": outcome}
    for reason in REASONS:
        yield "stackit_mirror_fallbacks_total", {"reason": reason}
    for kind in ("created", "updated", "deleted"):
        yield "stackit_mirror_ref_changes_total", {"kind": kind}
    for state in STATES:
        yield "stackit_mirror_state", {"repo": "octo/widget", "state": state}
    for name in ("verified_timestamp_seconds", "missing_refs"):
        yield f"stackit_mirror_{name}", {"repo": "octo/widget"}
    for route, status in product(ROUTES, ("200", "401", "403", "429", "500", "network")):
        yield "stackit_github_requests_total", {"route": route, "status": status}
    yield "stackit_github_limited_seconds", {"app": "main"}
    for result in ("made", "failed"):
        yield "stackit_github_token_mints_total", {"app": "main", "result": result}
    for file in ("journal.sqlite3", "journal.sqlite3-wal"):
        yield "stackit_journal_size_bytes", {"file": file}


def test_every_series_with_known_labels_is_there_once(fresh: Fresh) -> None:
    assert [each for each in known_series(fresh) if len(fresh.values(each[0], **each[1])) != 1] == []


def test_the_readings_of_a_new_install_are_healthy(fresh: Fresh) -> None:
    assert fresh.values("stackit_stuck_threads") == fresh.values("stackit_journal_problems") == [0]
    assert fresh.values("stackit_webhook_secret_valid") == [1, 1]
    assert fresh.values("stackit_mirror_state", state="cloning") == [1]
    (free,), (size,) = fresh.values("stackit_disk_free_bytes"), fresh.values("stackit_disk_size_bytes")
    assert 0 < free < size
    assert fresh.values("stackit_journal_size_bytes", file="journal.sqlite3")[0] > 0
    assert fresh.values("process_resident_memory_bytes")[0] > 0


def test_the_cases_of_the_rules_use_series_as_stackit_has_them(fresh: Fresh) -> None:
    exposed = {(sample.name, frozenset(sample.labels)) for sample in fresh.samples}
    used = {
        (name, frozenset(labels))
        for case in cases()
        for series in case["input_series"]
        for name, labels in selectors(series["series"])
        if name != "up"
    }
    assert len(used) > 10
    assert used - exposed == set()


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_a_case_shows_each_alert_firing(alert: Any) -> None:
    firing = [
        case["name"]
        for case in cases()
        for asked in case["promql_expr_test"]
        if any(f'alertname="{alert}"' in sample["labels"] for sample in asked["exp_samples"])
    ]
    assert firing


@pytest_twisted.ensureDeferred
async def test_the_readings_follow_a_rotation_and_a_journal_that_cannot_be_written(
    running_stackit: Any, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("the-secret-of-last-year")
    new.write_text("")
    server: RunningStackit = await running_stackit(secret=None, config={"webhook": {"secret_files": [old, new]}})

    async def readings() -> list[float]:
        """Whether each secret is valid, how often it verified, and what is wrong with the journal."""
        found = await server.metrics()
        valid = [found[f'stackit_webhook_secret_valid{{forge="github",secret="{each}"}}'] for each in (old, new)]
        verified = [found[f'stackit_deliveries_verified_total{{secret="{each}"}}'] for each in (old, new)]
        return [*valid, *verified, found["stackit_journal_problems"]]

    assert await readings() == [1, 0, 0, 0, 0]
    new.write_text("the-secret-of-this-year")
    assert await readings() == [1, 1, 0, 0, 0]
    await server.deliver("ping", secret="the-secret-of-last-year")
    await server.deliver("ping", secret="the-secret-of-this-year")
    assert await readings() == [1, 1, 1, 1, 0]
    old.write_text("")
    assert await readings() == [0, 1, 1, 1, 0]

    journal = server.state_dir / "journal.sqlite3"
    journal.rename(tmp_path / "journal.sqlite3")
    assert (await server.deliver("ping", secret="the-secret-of-this-year")).status == 503
    assert (await readings())[-1] == 1
    (tmp_path / "journal.sqlite3").rename(journal)

    async def is_well() -> bool:
        return (await readings())[-1] == 0

    await server.until(is_well, "the journal to be written again, while nobody delivers anything")
    assert (await server.metrics())['stackit_requests_refused_total{reason="journal"}'] == 1


@pytest_twisted.ensureDeferred
async def test_the_series_follow_a_reload(running_stackit: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("the-secret-of-last-year")
    new.write_text("the-secret-of-this-year")

    def config(*secrets: Path) -> dict[str, Any]:
        repos = [{"name": f"octo/{each.name}", "url": "http://127.0.0.1:1/octo/any.git"} for each in secrets]
        return {"sync": {"interval": "0"}, "webhook": {"secret_files": secrets}, "repos": repos}

    server: RunningStackit = await running_stackit(secret=None, config=config(old))

    async def shown(name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        text = (await server.admin("GET", "/metrics")).body.decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return {each.labels[label]: each.value for each in samples if each.name == name}

    async def secrets() -> dict[str, float]:
        return await shown("stackit_webhook_secret_valid", "secret")

    assert await secrets() == {str(old): 1}
    assert "outcome=done" in await server.reload(config(old, new))
    assert await secrets() == {str(old): 1, str(new): 1}
    assert await shown("stackit_deliveries_verified_total", "secret") == {str(old): 0, str(new): 0}
    assert await shown("stackit_mirror_missing_refs", "repo") == {"octo/old": 0, "octo/new": 0}

    assert "outcome=refused" in await server.reload(config(old, tmp_path / "nowhere"))
    assert (await server.metrics())["stackit_last_reload_successful"] == 0
    assert await secrets() == {str(old): 1, str(new): 1}

    assert "outcome=done" in await server.reload(config(new))
    assert (await server.metrics())["stackit_last_reload_successful"] == 1
    assert await secrets() == {str(new): 1}
    assert await shown("stackit_mirror_missing_refs", "repo") == {"octo/new": 0}
