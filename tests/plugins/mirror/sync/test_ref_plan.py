"""The plan from the refs of a mirror to those of its remote."""

from __future__ import annotations

import subprocess
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirror_harness import Upstream, git, refs

from stackit import ref_bytes
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.sync.ref_plan import RefPlan, blocking_refs, fit_as_files, plan

REFSPECS = ("+refs/heads/*:refs/heads/*",)


def side_by_side(names: Iterable[str]) -> list[str]:
    """Those of the names that can be refs of one repository, the first ones before the others."""
    taken: list[str] = []
    for name in names:
        if fit_as_files([*taken, name]):
            taken.append(name)
    return taken


# Few and short names, so that one is often the folder of another.
names = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "refs/heads/" + "/".join(parts))
repositories = st.lists(names, unique=True, max_size=8).map(side_by_side)
oids = st.sampled_from(["1" * 40, "2" * 40])


def with_oids(names: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(dict.fromkeys(names, oids))


ref_maps = repositories.flatmap(with_oids)


def fetched(have: dict[str, str], wanted: dict[str, str]) -> dict[str, str] | None:
    """The refs after a fetch of these; None where git could not lock one."""
    after = {**have, **wanted}
    return after if fit_as_files(after) else None


def carried_out(steps: RefPlan, have: dict[str, str]) -> dict[str, str]:
    """The refs after these steps, each of which must be possible."""
    now = dict(have)
    if steps.needs_fetch:
        after = fetched(now, steps.wanted)
        if after is None:
            blocking = steps.blocking()
            now = {ref: oid for ref, oid in now.items() if ref not in blocking}
            after = fetched(now, steps.wanted)
            assert after is not None, "whatever was in the way is gone"
        now = after
    gone = steps.deletions_from(Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in now.items()}))
    return {ref: oid for ref, oid in now.items() if ref not in gone}


@given(have=ref_maps, wanted=ref_maps)
def test_from_any_refs_to_any_others_the_steps_are_possible_and_make_them_equal(
    have: dict[str, str], wanted: dict[str, str]
) -> None:
    steps = plan(REFSPECS, have, wanted, lambda *_: None)
    assert carried_out(steps, have) == wanted


@given(have=ref_maps, wanted=ref_maps)
def test_nothing_is_deleted_before_the_fetch_that_could_be_deleted_after_it(
    have: dict[str, str], wanted: dict[str, str]
) -> None:
    blocking = plan(REFSPECS, have, wanted, lambda *_: None).blocking()
    assert blocking.keys() <= have.keys() - wanted.keys()
    for ref in blocking:
        assert not all(fit_as_files({ref, other}) for other in wanted), f"{ref} is in nobody's way"
    assert fit_as_files({*wanted, *have} - blocking.keys()) or not fit_as_files(wanted)


@given(have=ref_maps, wanted=ref_maps)
def test_with_an_objection_no_ref_is_deleted(have: dict[str, str], wanted: dict[str, str]) -> None:
    steps = plan(REFSPECS, have, wanted, lambda *_: "held")
    assert (steps.deletions, steps.blocking(), steps.held) == ({}, {}, "held")


@given(wanted=ref_maps)
def test_refs_that_the_configuration_leaves_out_go_without_a_question(wanted: dict[str, str]) -> None:
    have = {"refs/pull/1/head": "1" * 40}
    steps = plan(REFSPECS, have, wanted, lambda *_: "held")
    assert steps.deletions == have


def delete(mirror: Path, gone: dict[str, str]) -> None:
    git(mirror, "update-ref", "--stdin", stdin="".join(f"delete {ref} {oid}\n" for ref, oid in gone.items()).encode())


@given(before=repositories, after=repositories)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_git_can_take_the_steps_from_any_branches_to_any_others(
    tmp_path: Path, before: list[str], after: list[str]
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    upstream, mirror = Upstream(folder / "remote"), Upstream(folder / "mirror").directory
    oid = upstream.commit()
    for branches in (before, after):
        delete(upstream.directory, upstream.refs())
        for ref in branches:
            upstream.set(ref, oid)
        steps = plan(REFSPECS, refs(mirror), upstream.refs(), lambda *_: None)
        if steps.needs_fetch:
            try:
                git(mirror, "fetch", "--quiet", upstream.url, *REFSPECS)
            except subprocess.CalledProcessError as problem:
                assert b"lock ref" in problem.stderr  # noqa: PT017 - and what is in the way is deleted
                delete(mirror, steps.blocking())
                git(mirror, "fetch", "--quiet", upstream.url, *REFSPECS)
        now = Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in refs(mirror).items()})
        delete(mirror, steps.deletions_from(now))
        assert refs(mirror) == upstream.refs()


@pytest.mark.parametrize(
    ("gone", "wanted", "expected"),
    [
        ({"refs/heads/a"}, {"refs/heads/a/b"}, {"refs/heads/a"}),
        ({"refs/heads/a/b", "refs/heads/c"}, {"refs/heads/a"}, {"refs/heads/a/b"}),
        ({"refs/heads/ab"}, {"refs/heads/a"}, set()),
        (
            {"refs/heads/a", "refs/heads/b/c/d"},
            {"refs/heads/a-b", "refs/heads/a/b/c", "refs/heads/b"},
            {"refs/heads/a", "refs/heads/b/c/d"},
        ),
    ],
)
def test_only_what_is_in_the_way_goes_first(gone: set[str], wanted: set[str], expected: set[str]) -> None:
    assert blocking_refs(gone, wanted) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"refs/heads/a", "refs/heads/ab", "refs/heads/b/a", "refs/tags/a"}, True),
        ({"refs/heads/a", "refs/heads/a/b"}, False),
        ({"refs/heads/a", "refs/heads/a-b", "refs/heads/a/b/c/d"}, False),
        ({"refs/heads/a/b/c", "refs/heads/a/b/c/d", "refs/heads/a!"}, False),
        ({"refs/heads/" + "a" * 250}, True),
        ({"refs/heads/" + "a" * 251}, False),
        ({"refs/heads/" + "é" * 126}, False),
        ({"refs/heads" + "/a" * 1000}, True),
        ({"refs/heads" + "/a" * 1020}, False),
        (set(), True),
    ],
)
def test_refs_go_together_where_each_can_be_a_file(names: set[str], expected: bool) -> None:
    assert fit_as_files(names) is expected


def test_names_of_a_hostile_length_cost_no_more_than_their_length() -> None:
    names = {"refs/heads" + f"/{number}" + "/a" * 30_000 for number in range(50)}
    tracemalloc.start()
    try:
        assert not fit_as_files(names)
        assert blocking_refs({"refs/heads/1"}, names) == {"refs/heads/1"}
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
