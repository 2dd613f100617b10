"""The mapping of a remote's refs by any refspecs, and its inverse."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stackit import RefChange, ref_bytes, ref_text
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import (
    KEPT,
    destination,
    destinations,
    for_git,
    is_destination,
    mapped_refs,
)
from stackit.plugins.mirror.refs.snapshot import Snapshot

# Few letters, so that refs and refspecs often match, and names of which one begins like another.
FOLDERS = ["refs/heads/", "refs/heads/a/", "refs/tags/", "refs/stackit-kept/", "refs/stackit/", "refs/"]
ENDS = st.text("ab/\udce9", max_size=4)
REFS = st.builds(lambda folder, end: folder + end, st.sampled_from(FOLDERS), ENDS.filter(bool))
OIDS = st.sampled_from(["1" * 40, "2" * 40])

GLOBS = st.builds(lambda folder, end: f"{folder}*{end}", st.sampled_from(FOLDERS), ENDS)
POSITIVE = st.builds(lambda source, target: f"+{source}:{target}", GLOBS, GLOBS) | st.builds(
    lambda source, target: f"+{source}:{target}", REFS, REFS
)
NEGATIVE = (GLOBS | REFS).map(lambda pattern: f"^{pattern}")
REFSPECS = st.lists(POSITIVE | NEGATIVE, min_size=1, max_size=4).map(tuple)

WHOLE_FOLDERS = st.sampled_from(FOLDERS).map(lambda folder: f"+{folder}*:{folder}*")
FOLDER_REFSPECS = st.lists(WHOLE_FOLDERS | NEGATIVE, min_size=1, max_size=4).map(tuple)


@given(REFSPECS, REFS)
def test_where_a_ref_lands_is_a_destination(refspecs: tuple[str, ...], ref: str) -> None:
    for landed in destinations(refspecs, ref):
        assert is_destination(refspecs, landed)
        assert not ref_bytes(landed).startswith(KEPT)


@given(REFSPECS, REFS)
def test_a_destination_is_where_some_ref_lands(refspecs: tuple[str, ...], landed: str) -> None:
    if is_destination(refspecs, landed):
        sources = [each.removeprefix("+").partition(":") for each in refspecs if not each.startswith("^")]
        found = set()
        for source, _, target in sources:
            head, star, tail = target.partition("*")
            if star and landed.startswith(head) and landed.endswith(tail) and len(landed) >= len(head) + len(tail):
                found.add(source.replace("*", landed[len(head) : len(landed) - len(tail)]))
            elif landed == target:
                found.add(source)
        assert any(landed in destinations(refspecs, source) for source in found)


@given(REFSPECS, REFS)
def test_the_first_destination_is_the_destination(refspecs: tuple[str, ...], ref: str) -> None:
    assert destination(refspecs, ref) == next(iter([*destinations(refspecs, ref), None]))


@given(REFSPECS, REFS)
def test_a_ref_that_a_negative_refspec_names_lands_nowhere(refspecs: tuple[str, ...], ref: str) -> None:
    assert list(destinations((*refspecs, f"^{ref}"), ref)) == []
    assert list(destinations((f"^{ref[:-1]}*", *refspecs), ref)) == []


@given(REFSPECS, REFS)
def test_what_git_is_given_leads_to_the_same_refs(refspecs: tuple[str, ...], ref: str) -> None:
    """A negative refspec that protects the kept refs may take a ref from another refspec, and adds none."""
    assert set(destinations(for_git(refspecs), ref)) <= set(destinations(refspecs, ref))
    assert for_git(for_git(refspecs)) == for_git(refspecs)


@given(REFSPECS | FOLDER_REFSPECS, st.dictionaries(REFS, OIDS, max_size=6))
def test_many_refs_land_where_each_alone_does(refspecs: tuple[str, ...], refs: dict[str, str]) -> None:
    """Whole folders are mapped in a way of their own, which is faster."""
    expected = {landed: oid for ref, oid in refs.items() for landed in destinations(refspecs, ref)}
    assert mapped_refs(refspecs, {ref_bytes(ref): oid for ref, oid in refs.items()}) == {
        ref_bytes(ref): oid for ref, oid in expected.items()
    }


@given(st.dictionaries(REFS, OIDS, max_size=8))
def test_a_snapshot_has_the_refs_that_it_is_made_of(refs: dict[str, str]) -> None:
    snapshot = Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in refs.items()})
    assert snapshot.as_dict() == refs
    assert all(snapshot.get(ref) == oid for ref, oid in refs.items())
    assert bool(snapshot) is bool(refs)


@given(st.dictionaries(st.binary(min_size=1).map(ref_text), OIDS), st.none() | st.binary())
def test_a_list_may_hold_refs_of_any_bytes(refs: dict[str, str], head: bytes | None) -> None:
    listing = Listing({ref_bytes(ref): oid for ref, oid in refs.items()}, head)
    assert {ref_text(ref): oid for ref, oid in listing.refs.items()} == refs


@given(st.dictionaries(REFS, OIDS, max_size=8), st.lists(st.tuples(REFS, OIDS), max_size=8))
def test_a_snapshot_with_moved_refs_has_what_a_dict_would_have(
    refs: dict[str, str], moves: list[tuple[str, str]]
) -> None:
    before = Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in refs.items()})
    moved = before
    for ref, oid in moves:
        moved = moved.moved([RefChange(ref, "0" * 40, oid, "updated")])
    after = {**refs, **dict(moves)}
    assert moved.as_dict() == after
    assert moved == Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in after.items()})
    assert before.as_dict() == refs
