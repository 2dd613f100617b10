"""The metrics of the streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.api.admin import StreamEnd
from stackit.live.feed import Feed
from stackit.live.places import Full, Places


class LiveMetrics(Collector):
    """The number of streams, of their ends and refusals, and of the events in them."""

    def __init__(self, feed: Feed, places: Places) -> None:
        self._feed = feed
        self._places = places

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        feed = self._feed
        yield GaugeMetricFamily("stackit_event_streams", "Streams of events that are open.", value=len(feed))
        ended = CounterMetricFamily("stackit_event_streams_ended", "Streams that ended, by why.", labels=["reason"])
        for reason in get_args(StreamEnd):
            ended.add_metric([reason], feed.ended[reason])
        yield ended
        refused = CounterMetricFamily(
            "stackit_event_streams_refused", "Streams that had no place, by whose places were taken.", labels=["by"]
        )
        for by in get_args(Full):
            refused.add_metric([by], self._places.refused[by])
        yield refused
        events = CounterMetricFamily(
            "stackit_stream_events",
            "Events of streams, once for each stream, by what became of them.",
            labels=["outcome"],
        )
        events.add_metric(["sent"], feed.sent)
        events.add_metric(["skipped"], feed.skipped)
        yield events
