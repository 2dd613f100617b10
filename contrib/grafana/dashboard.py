"""The dashboard of stackit for Grafana. Run it after a change of it: ``python contrib/grafana/dashboard.py``.

It writes ``stackit.json`` beside itself, which Grafana imports or is provisioned with. Every query takes the variables
``job`` and ``instance``, so that one dashboard shows one stackit or many.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "stackit.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
DEAD = 'outcome="dead"'
FAILING = 'state=~"failing|quarantined"'
PROCESS = 'and on (job, instance) stackit_info{job=~"$job",instance=~"$instance"}'


class Panel(NamedTuple):
    """One panel: its queries are pairs of PromQL and legend. ``red`` is from or below which number it is red."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    red: str = ""
    stacked: bool = False


def of(metric: str, labels: str = "") -> str:
    """Return a metric of the chosen instances."""
    chosen = 'job=~"$job",instance=~"$instance"'
    return f"{metric}{{{chosen},{labels}}}" if labels else f"{metric}{{{chosen}}}"


def rate(metric: str, by: str, labels: str = "") -> str:
    """Return events a second, summed by labels."""
    return f"sum by ({by}) (rate({of(metric, labels)}[$__rate_interval]))"


def count(metric: str, by: str, labels: str = "") -> str:
    """Return the events in each interval, summed by labels."""
    return f"sum by ({by}) (increase({of(metric, labels)}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram, by labels."""
    buckets = rate(f"{histogram}_bucket", f"{by}, le" if by else "le")
    return f"histogram_quantile({share}, {buckets})"


def age(metric: str, by: str) -> str:
    """Return the seconds since a time that a metric tells; none where it has not been yet."""
    return f"time() - min by ({by}) ({of(metric)} > 0)"


def number(title: str, text: str, query: str, unit: str = "short", red: str = "") -> Panel:
    return Panel(title, text, ((query, ""),), unit, "stat", red)


def lines(title: str, text: str, *queries: tuple[str, str], unit: str = "short", stacked: bool = False) -> Panel:
    return Panel(title, text, queries, unit, stacked=stacked)


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is all well?",
        (
            number("Up", "0: a stackit does not answer Prometheus", f"min({of('up')})", red="below 1"),
            number("Journal problems", "/readyz names them", f"sum({of('stackit_journal_problems')})", red="from 1"),
            number("Events pending", "of all handlers", f"sum({of('stackit_handlings_pending')})", red="from 100"),
            number(
                "New dead letters",
                "in the time that is shown; stackit deliveries --state dead lists them",
                f"sum(increase({of('stackit_handlings_total', DEAD)}[$__range]))",
                red="from 1",
            ),
            number(
                "Push to visible, p95",
                "in the time that is shown: from a push received to its commit visible in the mirror",
                "histogram_quantile(0.95, sum by (le) ("
                f"increase({of('stackit_push_visible_seconds_bucket')}[$__range])))",
                "s",
                "from 60",
            ),
            number(
                "Mirrors that fail",
                "stackit repos says why",
                f"sum({of('stackit_mirror_state', FAILING)})",
                red="from 1",
            ),
            number(
                "Disk free",
                "for stackit, on the disk of its state directory",
                f"min({of('stackit_disk_free_bytes')})",
                "bytes",
                f"below {2**30}",
            ),
            number(
                "Time since the start",
                "of the stackit that was started last",
                f"min((time() - {of('process_start_time_seconds')}) {PROCESS})",
                "s",
            ),
        ),
    ),
    (
        "Deliveries",
        (
            lines(
                "Verified deliveries",
                "a second, by what became of them",
                (rate("stackit_deliveries_total", "outcome"), "{{outcome}}"),
                unit="reqps",
                stacked=True,
            ),
            lines(
                "Events",
                "verified deliveries a second, by their event",
                (rate("stackit_deliveries_total", "event"), "{{event}}"),
                unit="reqps",
                stacked=True,
            ),
            lines(
                "Refused requests",
                "a second, by the reason",
                (rate("stackit_requests_refused_total", "reason"), "{{reason}}"),
                unit="reqps",
                stacked=True,
            ),
            lines(
                "Deliveries by secret",
                "a second: a rotation is over when the old secret verifies nothing more",
                (rate("stackit_deliveries_verified_total", "secret"), "{{secret}}"),
                unit="reqps",
            ),
            lines(
                "Not as it should be",
                "signed bodies that came back under a new id, ref changes that no delivery announced",
                (count("stackit_deliveries_replayed_total", "instance"), "replayed at {{instance}}"),
                (count("stackit_backstop_found_total", "instance"), "found by the backstop at {{instance}}"),
            ),
        ),
    ),
    (
        "Handlers",
        (
            lines(
                "Pending events",
                "that a handler still has to handle, also those that wait for a retry",
                (f"sum by (subscriber) ({of('stackit_handlings_pending')})", "{{subscriber}}"),
            ),
            lines(
                "Attempts",
                "a second, by handler and outcome",
                (rate("stackit_handlings_total", "subscriber, outcome"), "{{subscriber}} {{outcome}}"),
                unit="ops",
            ),
            lines(
                "Time of an attempt, p95",
                "by handler",
                (quantile(0.95, "stackit_handling_seconds", "subscriber"), "{{subscriber}}"),
                unit="s",
            ),
            lines(
                "Standing still",
                "for how long events have been due while none began or ended",
                (f"max by (subscriber) ({of('stackit_handlings_stalled_seconds')})", "{{subscriber}}"),
                unit="s",
            ),
            lines(
                "Paused",
                "1 while a person has paused a handler: its events wait in the journal",
                (f"max by (subscriber) ({of('stackit_handler_paused')})", "{{subscriber}}"),
            ),
        ),
    ),
    (
        "Mirrors",
        (
            lines(
                "Mirrors by state",
                "",
                (f"sum by (state) ({of('stackit_mirror_state')})", "{{state}}"),
                stacked=True,
            ),
            lines(
                "Push to visible",
                "from a push received to its commit visible in the mirror",
                (quantile(0.5, "stackit_push_visible_seconds"), "median"),
                (quantile(0.95, "stackit_push_visible_seconds"), "p95"),
                unit="s",
            ),
            lines(
                "Looks at remotes",
                "a second, by cause and outcome",
                (rate("stackit_mirror_syncs_total", "cause, outcome"), "{{cause}} {{outcome}}"),
                unit="ops",
            ),
            lines(
                "Time of a look",
                "at a remote, with the fetch where there is one",
                (quantile(0.5, "stackit_mirror_sync_seconds"), "median"),
                (quantile(0.95, "stackit_mirror_sync_seconds"), "p95"),
                unit="s",
            ),
            lines(
                "The oldest mirrors",
                "the five that were last known to equal their remotes longest ago",
                (f"topk(5, {age('stackit_mirror_verified_timestamp_seconds', 'instance, repo')})", "{{repo}}"),
                unit="s",
            ),
            lines(
                "Refs that moved",
                "in each interval",
                (count("stackit_mirror_ref_changes_total", "kind"), "{{kind}}"),
                stacked=True,
            ),
            lines(
                "Slow ways and repairs",
                "pushes that took a slower way than the fast one, and repairs of mirrors",
                (count("stackit_mirror_fallbacks_total", "reason"), "slower: {{reason}}"),
                (count("stackit_mirror_healed_total", "instance"), "repairs at {{instance}}"),
            ),
            lines(
                "Since the last round of the backstop",
                "that ended without an error",
                (age("stackit_backstop_last_success_timestamp_seconds", "instance"), "{{instance}}"),
                unit="s",
            ),
        ),
    ),
    (
        "GitHub",
        (
            lines(
                "Requests to its API",
                "a second, by the answer",
                (rate("stackit_github_requests_total", "status"), "{{status}}"),
                unit="reqps",
                stacked=True,
            ),
            lines(
                "Requests that its limit leaves",
                "as the last answer said",
                (
                    f"min by (app, resource) ({of('stackit_github_rate_limit_remaining')})",
                    "{{app}} {{resource}}",
                ),
            ),
            lines(
                "Held back by a limit",
                "",
                (f"max by (app) ({of('stackit_github_limited_seconds')})", "{{app}}"),
                unit="s",
            ),
            lines(
                "Installations",
                "of Apps, by state",
                (f"sum by (app, state) ({of('stackit_github_installations')})", "{{app}} {{state}}"),
            ),
            lines(
                "Missed deliveries",
                "still to be taken from GitHub's list, and taken in each interval",
                (f"sum by (hook) ({of('stackit_github_deliveries_missed')})", "{{hook}}: missed"),
                (count("stackit_github_deliveries_recovered_total", "hook"), "{{hook}}: recovered"),
            ),
            lines(
                "Webhooks with a fault",
                "stackit hook check names them",
                (f"sum by (fault) ({of('stackit_github_hook_faults')})", "{{fault}}"),
            ),
            lines(
                "Discovery",
                "listings of repositories that fail, and that wait for a person",
                (f"sum by (source) ({of('stackit_discovery_failing')})", "{{source}}: failing"),
                (f"sum by (source) ({of('stackit_discovery_held')})", "{{source}}: held"),
            ),
            lines(
                "Repositories",
                "",
                (f"sum by (state) ({of('stackit_repos')})", "{{state}}"),
            ),
        ),
    ),
    (
        "The fleet",
        (
            lines(
                "Nodes",
                "by state, as each node sees them",
                (f"max by (state) ({of('stackit_fleet_nodes')})", "{{state}}"),
            ),
            lines(
                "Work",
                "shards of handlers and of mirrors that each node owns, and those that no node does",
                (f"sum by (instance, kind) ({of('stackit_fleet_shards')})", "{{instance}} {{kind}}"),
                (f"max by (kind) ({of('stackit_fleet_unowned_shards')})", "nobody: {{kind}}"),
            ),
            lines(
                "Lease left",
                "a node without one does nothing; the leader does what is done once",
                (f"min by (instance) ({of('stackit_fleet_lease_left_seconds')})", "{{instance}}"),
                (f"max by (instance) ({of('stackit_fleet_leader')})", "{{instance}}: leader"),
                unit="s",
            ),
            lines(
                "Clocks",
                "by how much that of each node differs from the database's",
                (f"max by (instance) (abs({of('stackit_fleet_clock_ahead_seconds')}))", "{{instance}}"),
                unit="s",
            ),
            lines(
                "The database",
                "1: it answers the node; and the lag of the standbys that a commit waits for, in seconds",
                (f"min by (instance) ({of('stackit_database_up')})", "{{instance}}: up"),
                (f"max by (job) ({of('stackit_database_standby_lag_seconds')})", "lag"),
                (f"min by (job) ({of('stackit_database_standbys')})", "standbys"),
            ),
            lines(
                "Size of the database",
                "",
                (f"max by (job) ({of('stackit_database_bytes')})", "{{job}}"),
                unit="bytes",
            ),
        ),
    ),
    (
        "The process",
        (
            lines(
                "Processor",
                "1 is one core; the git children are not counted",
                (f"sum by (instance) (rate({of('process_cpu_seconds_total')}[$__rate_interval]))", "{{instance}}"),
                unit="percentunit",
            ),
            lines(
                "Memory",
                "resident; the git children are not counted",
                (f"sum by (instance) ({of('process_resident_memory_bytes')})", "{{instance}}"),
                unit="bytes",
            ),
            lines(
                "Size of the journal",
                "of its file and of its log",
                (f"sum by (instance, file) ({of('stackit_journal_size_bytes')})", "{{instance}} {{file}}"),
                unit="bytes",
            ),
            lines(
                "Open files",
                "",
                (f"sum by (instance) ({of('process_open_fds')})", "{{instance}}"),
                (f"sum by (instance) ({of('process_max_fds')})", "{{instance}}: at most"),
            ),
            lines(
                "Stuck threads, dropped log lines",
                "/readyz names the threads; lines are dropped where standard output is not read",
                (f"sum by (instance) ({of('stackit_stuck_threads')})", "{{instance}}: threads"),
                (count("stackit_log_lines_dropped_total", "instance"), "{{instance}}: lines"),
            ),
            lines(
                "Streams of events",
                "people and programs that watch, and those that found no place in each interval",
                (f"sum by (instance) ({of('stackit_event_streams')})", "{{instance}}"),
                (count("stackit_event_streams_refused_total", "by"), "refused by: {{by}}"),
            ),
            lines(
                "Reloads",
                "of the configuration, in each interval",
                (count("stackit_reloads_total", "outcome"), "{{outcome}}"),
            ),
        ),
    ),
)


def steps(red: str) -> list[dict[str, Any]]:
    """Return the thresholds of a number: green, and red from or below a limit."""
    if not red:
        return [{"color": "green", "value": None}]
    word, limit = red.split()
    low, high = ("red", "green") if word == "below" else ("green", "red")
    return [{"color": low, "value": None}, {"color": high, "value": float(limit)}]


def panel(each: Panel, number: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """Return a panel as Grafana takes it."""
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if each.kind == "timeseries":
        custom = {"fillOpacity": 20 if each.stacked else 0, "showPoints": "never"}
        custom["stacking"] = {"mode": "normal" if each.stacked else "none"}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    colour = {"mode": "palette-classic" if each.kind == "timeseries" else "thresholds"}
    return {
        "id": number,
        "type": each.kind,
        "title": each.title,
        "description": each.text,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto"}
            for index, (query, legend) in enumerate(each.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": each.unit,
                "min": 0,
                "color": colour,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps(each.red)},
            },
            "overrides": [],
        },
        "options": options,
    }


def panels() -> list[dict[str, Any]]:
    """Return all panels in rows, from the top to the bottom."""
    made: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y += 1
        width, height = (WIDTH // len(row), 4) if row[0].kind == "stat" else (WIDTH // 2, 8)
        for index, each in enumerate(row):
            across = WIDTH // width
            at = (index % across * width, y + index // across * height)
            made.append(panel(each, len(made) + 1, *at, width, height))
        y += -(-len(row) // (WIDTH // width)) * height
    return made


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """Return a choice of the values of a label, all of them at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana takes it."""
    return {
        "uid": "stackit",
        "title": "stackit",
        "description": "Deliveries, handlers and mirrors of stackit.",
        "tags": ["stackit"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                variable("job", "Job", "label_values(stackit_info, job)"),
                variable("instance", "Instance", 'label_values(stackit_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": panels(),
    }


def text() -> str:
    """Return the text of the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
