"""git's stderr with a trace of HTTP in it, and the output of ls-remote: whatever a remote makes git write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stackit.plugins.mirror.git.causes import LONGEST, find_cause
from stackit.plugins.mirror.git.diagnosis import classify, explain, find_warnings
from stackit.plugins.mirror.git.http_trace import parse_stderr
from stackit.plugins.mirror.git.ls_remote import is_plausible, parse_ls_remote

NOW = 1795460400.0
TRACE = "19:00:00.123456 http.c:845              "
VALUES = st.text(max_size=30)
LINES = st.one_of(
    st.text(max_size=40),
    st.builds("remote: {}".format, VALUES),
    st.builds("fatal: {}".format, VALUES),
    st.builds((TRACE + "=> Send header: {} /x/info/refs?service=git-upload-pack HTTP/1.1").format, VALUES),
    st.builds((TRACE + "<= Recv header: HTTP/1.1 {}").format, st.integers(100, 999)),
    st.builds(
        (TRACE + "<= Recv header: {}: {}").format,
        st.sampled_from(["Retry-After", "Location", "Content-Type", "Content-Length"]),
        VALUES | st.builds("https://{}/{}".format, VALUES, VALUES) | st.integers().map(str),
    ),
)
STDERR = st.lists(LINES).map("\n".join)


@given(STDERR)
def test_whatever_git_writes_has_a_kind_and_a_reason_of_one_line(stderr: str) -> None:
    said, answer = parse_stderr(stderr, NOW)
    assert find_warnings(said).count("\n") <= said.count("\n")
    kind = classify(said, answer)
    reason = explain(kind, said, answer, 128, "https")
    assert reason
    assert reason.splitlines() == [reason]
    assert reason.isprintable()


@given(STDERR)
def test_a_trace_is_no_message(stderr: str) -> None:
    said, _ = parse_stderr(stderr, NOW)
    assert TRACE + "=>" not in said
    assert TRACE + "<=" not in said


@given(STDERR)
def test_a_cause_is_short_and_can_be_shown(stderr: str) -> None:
    cause = find_cause(stderr)
    assert cause is None or (cause.isprintable() and len(cause) <= LONGEST + len("the remote says: "))


@given(
    st.binary() | st.lists(st.binary(max_size=50)).map(b"\tHEAD\n".join) | st.lists(st.binary()).map(b"\trefs/".join)
)
def test_any_output_of_ls_remote_is_a_list(output: bytes) -> None:
    listing = parse_ls_remote(output)
    assert all(ref.startswith(b"refs/") for ref in listing.refs)
    assert is_plausible(listing) in (True, False)
