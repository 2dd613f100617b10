"""The output of ``git ls-remote --symref``."""

from __future__ import annotations

from stackit.plugins.mirror.refs.listing import Listing, is_object_id


def parse_ls_remote(output: bytes) -> Listing:
    """Parse lines of object id, tab and ref. Object ids are not checked (``is_plausible``)."""
    refs: dict[bytes, str] = {}
    head = tip = None
    for line in output.splitlines():
        oid, _, name = line.partition(b"\t")
        if oid.startswith(b"ref: ") and name == b"HEAD":
            head = oid.removeprefix(b"ref: ")
        elif name == b"HEAD":
            tip = oid.decode("ascii", "replace")
        elif name.startswith(b"refs/") and not name.endswith(b"^{}"):
            refs[name] = oid.decode("ascii", "replace")
    return Listing(refs, head, tip=tip)


def is_plausible(listing: Listing) -> bool:
    """Return True if there are refs, and each has an object id.

    A dumb server sends a file, and git takes any page for a list without refs.
    """
    return bool(listing.refs) and all(map(is_object_id, listing.refs.values()))
