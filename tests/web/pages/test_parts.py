"""The parts of pages: the payload that folds, the timeline, notices, filters, static files."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markupsafe import Markup

from stackit import Template
from stackit.html.filters import duration, visible
from stackit.html.templates import query
from stackit.web.pages.notices import Notice, Notices
from stackit.web.pages.payload import decoded, folded
from stackit.web.pages.static_files import static_files, static_routes
from stackit.web.pages.timeline import timeline


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = {"down": value}
    return value


@pytest.mark.parametrize(
    "payload",
    [
        [{"a": list(range(100))} for _ in range(2000)],
        {str(number): "x" * 5000 for number in range(5000)},
        nested(900),
        {"<b>" * 100: "<script>" * 10_000},
    ],
    ids=["wide", "long", "deep", "hostile"],
)
def test_a_payload_of_any_size_is_a_small_part_of_a_page(payload: Any) -> None:
    html = folded(payload)
    assert len(html) < 400_000
    assert "<script>" not in html
    assert re.search("…", html)


def test_a_number_of_thousands_of_digits_is_shown_as_a_text_is() -> None:
    value = decoded(b'{"small": 12, "large": -%b}' % (b"9" * 5000))
    assert value["small"] == 12
    assert "large" in folded(value)
    assert len(folded(value)) < 1000


def test_a_notice_repeats_no_more_than_a_line_of_what_a_form_sent() -> None:
    notices = Notices()
    shown = notices.take(notices.keep(Notice("x" * 60_000, "bad")))
    assert shown is not None
    assert (len(shown.text), shown.tone) == (501, "bad")


def test_every_value_of_a_small_payload_is_shown() -> None:
    html = folded({"text": "a <b> \u202e", "none": None, "yes": True, "number": 1.5, "empty": {}, "list": [[], 0]})
    shown = Markup(html).striptags()  # noqa: S704 - it is HTML
    for each in ("text a <b> \\u202e", "none null", "yes true", "number 1.5", "empty {}", "2 items", "0 []", "1 0"):
        assert each in shown, each


def test_the_timeline_has_what_happened_in_its_order_and_what_is_to_come_at_its_end() -> None:
    def handling(subscriber: str, state: str, attempts: int, finished_at: str | None) -> dict[str, Any]:
        return {"subscriber": subscriber, "state": state, "attempts": attempts, "finished_at": finished_at}

    steps = timeline(
        {
            "received_at": "2026-11-29T08:00:00.000Z",
            "visible_at": "2026-11-29T08:00:00.250Z",
            "via": "webhook",
            "handlings": [
                handling("waits", "pending", 2, None),
                handling("failed", "dead", 8, "2026-11-29T09:00:00.000Z"),
                handling("mirror", "done", 1, "2026-11-29T08:00:00.300Z"),
            ],
        }
    )
    assert [(each.title, None if each.after is None else round(each.after, 3)) for each in steps] == [
        ("Received and signed", None),
        ("Visible in the mirror", 0.25),
        ("mirror", 0.3),
        ("failed", 3600.0),
        ("waits", None),
    ]


def test_a_notice_is_shown_once_and_the_oldest_has_to_go() -> None:
    notices = Notices()
    first = notices.keep(Notice("first"))
    kept = [notices.keep(Notice(str(number))) for number in range(500)]
    assert notices.take(first) is None
    assert notices.take(kept[-1]) == Notice("499")
    assert notices.take(kept[-1]) is None
    assert len(set(kept)) == 500


def test_texts_of_strangers_cannot_hide_or_turn_around_what_is_near() -> None:
    assert visible("main\u202egnp.\x00\u200b\ud800\n\tend") == "main\\u202egnp.\\x00\\u200b\\ud800\n\tend"
    rendered = Template("<p title='{{ x }}'>{{ x }}</p>").render(x="'\"><script>\x1b[31m")
    assert rendered == "<p title='&#39;&#34;&gt;&lt;script&gt;\\x1b[31m'>&#39;&#34;&gt;&lt;script&gt;\\x1b[31m</p>"
    assert query({"repo": "a/b&c", "state": ""}, cursor=None) == "?repo=a%2Fb%26c"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "\N{EN DASH}"), (0.0123, "12 ms"), (1.44, "1.4 s"), (180, "3 min"), (9000, "2.5 h")]
)
def test_times_are_in_the_unit_that_fits(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_static_files_are_open_small_and_named_by_their_content() -> None:
    assert sum(len(each.content) for each in static_files().values()) < 40_000
    assert all(
        route.open and re.fullmatch(r"/static/[a-z]+-[0-9a-f]{16}\.[a-z]+", route.path) for route in static_routes()
    )
