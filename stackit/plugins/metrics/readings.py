"""The metrics that a scrape reads from the running stackit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit import App


class Readings(Collector):
    """Gauges, and one counter, of what ``app`` tells at the moment of the scrape."""

    def __init__(self, app: App) -> None:
        self._app = app

    def collect(self) -> Iterable[Metric]:
        app = self._app
        vitals = app.vitals()
        yield _by_label(
            "stackit_handlings_pending", "Events that a subscriber still has to handle.", "subscriber", app.pending()
        )
        yield _by_label(
            "stackit_handlings_stalled_seconds",
            "For how long events of a subscriber have been due and none has begun or ended.",
            "subscriber",
            app.stalled(),
        )
        yield CounterMetricFamily("stackit_log_lines_dropped", "Log lines that nobody read.", value=app.dropped_lines())
        yield GaugeMetricFamily(
            "stackit_sync_interval_seconds", "The interval of the backstop, 0 for none.", value=app.sync_interval
        )
        yield GaugeMetricFamily(
            "stackit_stuck_threads", "Threads of stackit that do not move.", value=len(vitals.stuck)
        )
        yield GaugeMetricFamily(
            "stackit_journal_problems",
            "What keeps the journal from being written as it should.",
            value=len(vitals.journal_problems),
        )
        yield _by_label("stackit_journal_size_bytes", "The size of a file of the journal.", "file", vitals.file_sizes)
        for name, text, value in (
            ("stackit_disk_free_bytes", "The room that is left on the disk of the state directory.", vitals.disk_free),
            ("stackit_disk_size_bytes", "The size of the disk of the state directory.", vitals.disk_size),
        ):
            family = GaugeMetricFamily(name, text)
            if value is not None:
                family.add_metric([], value)
            yield family
        valid = GaugeMetricFamily(
            "stackit_webhook_secret_valid",
            "1 for a webhook secret by which deliveries can verify, 0 for one whose file is empty.",
            labels=["forge", "secret"],
        )
        for labels, is_valid in vitals.secrets.items():
            valid.add_metric(labels, is_valid)
        yield valid


def _by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
