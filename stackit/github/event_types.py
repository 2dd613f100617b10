"""Check that a payload belongs to the event that its header names, by the keys at its top level.

The header ``X-GitHub-Event`` is not signed: a signed body can be sent again under another event name.
So for each event the tables below list the keys that every payload of it has, and those that none has.

Sources: GitHub's documentation, "Webhook events and payloads"; its OpenAPI descriptions of github.com,
Enterprise Cloud and Enterprise Server; the examples and JSON schemas of the octokit project, back to
Enterprise Server 3.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from functools import lru_cache
from itertools import chain

import msgspec

PING = "ping"
PUSH = "push"

_KEYS: Mapping[str, str] = {
    "branch_protection_configuration": "action repository",
    "branch_protection_rule": "action repository rule",
    "check_run": "action repository check_run",
    "check_suite": "action repository check_suite",
    "code_scanning_alert": "action repository alert commit_oid ref",
    "commit_comment": "action repository comment",
    "create": "repository ref ref_type master_branch",
    "custom_property": "action definition",
    "custom_property_values": "action repository new_property_values old_property_values",
    "delete": "repository ref ref_type pusher_type",
    "dependabot_alert": "action repository alert",
    "deploy_key": "action repository key",
    "deployment": "repository deployment",
    "deployment_protection_rule": "action repository",
    "deployment_review": "action repository since",
    "deployment_status": "repository deployment deployment_status",
    "discussion": "action repository discussion",
    "discussion_comment": "action repository discussion comment",
    "fork": "repository forkee",
    "github_app_authorization": "action",
    "gollum": "repository pages",
    "installation": "action installation",
    "installation_repositories": "action installation repositories_added repositories_removed",
    "installation_target": "action installation account target_type",
    "issue_comment": "action repository issue comment",
    "issue_dependencies": "action blocked_issue_id blocking_issue_id",
    "issues": "action repository issue",
    "label": "action repository label",
    "marketplace_purchase": "action marketplace_purchase",
    "member": "action repository member",
    "membership": "action member scope team",
    "merge_group": "action merge_group",
    "meta": "action hook hook_id",
    "milestone": "action repository milestone",
    "org_block": "action blocked_user",
    "organization": "action organization",
    "package": "action package",
    "page_build": "repository build id",
    "personal_access_token_request": "action personal_access_token_request",
    "ping": "zen hook_id",
    "project": "action project",
    "project_card": "action project_card",
    "project_column": "action project_column",
    "projects_v2": "action projects_v2",
    "projects_v2_item": "action projects_v2_item",
    "projects_v2_status_update": "action projects_v2_status_update",
    "public": "repository",
    "pull_request": "action repository number pull_request",
    "pull_request_review": "action repository pull_request review",
    "pull_request_review_comment": "action repository pull_request comment",
    "pull_request_review_thread": "action repository pull_request thread",
    "push": "repository",
    "registry_package": "action registry_package",
    "release": "action repository release",
    "repository": "action repository",
    "repository_advisory": "action repository repository_advisory",
    "repository_dispatch": "action repository branch client_payload",
    "repository_import": "repository status",
    "repository_ruleset": "action repository_ruleset",
    "repository_vulnerability_alert": "action repository alert",
    "secret_scanning_alert": "action repository alert",
    "secret_scanning_alert_location": "action repository alert location",
    "secret_scanning_scan": "action type source",
    "security_advisory": "action security_advisory",
    "security_and_analysis": "changes repository",
    "sponsorship": "action sponsorship",
    "star": "action repository starred_at",
    "status": "repository sha state context",
    "sub_issues": "action parent_issue_id sub_issue_id",
    "team": "action team",
    "team_add": "repository team",
    "watch": "action repository",
    "workflow_dispatch": "repository inputs ref workflow",
    "workflow_job": "action repository workflow_job",
    "workflow_run": "action repository workflow_run",
}

REQUIRED: Mapping[str, frozenset[str]] = {name: frozenset(keys.split()) for name, keys in _KEYS.items()}
"""The keys that every payload of an event has, by the name of the event."""

# Required keys whose value is text, a number or a list. The values of all others are objects.
# fmt: off
_OTHER_KEYS = frozenset(
    {
        "action", "blocked_issue_id", "blocking_issue_id", "branch", "client_payload", "commit_oid", "context",
        "hook_id", "id", "inputs", "master_branch", "new_property_values", "number", "old_property_values",
        "pages", "parent_issue_id", "pusher_type", "ref", "ref_type", "repositories_added",
        "repositories_removed", "scope", "sha", "since", "source", "starred_at", "state", "status",
        "sub_issue_id", "target_type", "type", "workflow", "zen",
    }
)
# fmt: on

_OBJECT_KEYS: Mapping[str, frozenset[str]] = {name: keys - _OTHER_KEYS for name, keys in REQUIRED.items()}

NULLABLE = frozenset({"blocked_user", "member"})
"""Required keys whose value may be null: users whose accounts were deleted."""

# Events without an action on Enterprise Server before 3.6, and on GitHub AE.
_OPTIONAL_ACTION = frozenset({"deployment", "deployment_status"})

# Events whose keys are those of many others: they are recognised by their actions.
_DISTINCT_ACTIONS: Mapping[str, frozenset[str]] = {
    "branch_protection_configuration": frozenset({"enabled", "disabled"}),
    "deployment_protection_rule": frozenset({"requested"}),
    "github_app_authorization": frozenset({"revoked"}),
    "watch": frozenset({"started"}),
}

# Actions whose payloads lack the other required keys (Enterprise Server).
_KEYLESS_ACTIONS: Mapping[str, frozenset[str]] = {
    "repository": frozenset({"anonymous_access_disabled", "anonymous_access_enabled"}),
}

_MEMBER_KEYS = frozenset({"invitation", "membership"})
# Keys of an event's subject, such as ``issue``. An event whose subject is a repository, an organization or an
# installation has none of them.
_SUBJECT_KEYS = frozenset().union(*REQUIRED.values()) - {
    "action",
    "changes",
    "installation",
    "organization",
    "repository",
}

# Keys that no payload of an event has. They are listed only where another event has all keys that this one requires.
_FORBIDDEN_KEYS: Mapping[str, Set[str]] = {
    "check_run": frozenset({"deployment_status"}),
    "delete": frozenset({"master_branch"}),
    "deployment": frozenset({"check_run", "check_suite", "deployment_callback_url", "workflow_job"}),
    "deployment_protection_rule": frozenset({"check_suite", "check_run", "workflow_run", "workflow_job"}),
    "github_app_authorization": frozenset({"repository", "organization"}),
    "installation": _SUBJECT_KEYS | _MEMBER_KEYS,
    "label": frozenset({"issue", "pull_request", "discussion"}),
    "member": frozenset({"scope"}),
    "milestone": frozenset({"issue", "pull_request"}),
    "organization": _SUBJECT_KEYS,
    "ping": _SUBJECT_KEYS - {"hook", "hook_id", "zen"} | {"action"},
    "public": frozenset({"commits", "hook", "hook_id", "ref", "zen"}),
    "push": frozenset({"cache_location", "hook", "hook_id", "zen"}),
    "repository": _SUBJECT_KEYS | {"content_reference", "exemption_request", "user"},
    "security_and_analysis": frozenset({"action"}),
    "team_add": frozenset({"action"}),
    "workflow_run": frozenset({"deployment", "reviewers", "since"}),
}

# For each event, the further keys of each event that requires all its keys and more. A payload with all further keys
# of one of them belongs to that one.
_FURTHER_KEYS: Mapping[str, tuple[frozenset[str], ...]] = {
    name: tuple(more - keys for more in REQUIRED.values() if more > keys)
    for name, keys in REQUIRED.items()
    if name not in _DISTINCT_ACTIONS
}

# Every key that the tables above name.
_KNOWN_KEYS = frozenset().union(*REQUIRED.values(), *_FORBIDDEN_KEYS.values())


def has_shape(name: str, payload: Mapping[str, msgspec.Raw], action: str | None) -> bool:
    """Return whether ``payload`` (raw JSON values by key) can be that of the event ``name`` with this ``action``.

    ``action`` is None where the payload's action is missing or is not text. True for every event that GitHub does
    not document, whose keys nothing is known of.
    """
    required = REQUIRED.get(name)
    if required is None:
        return True
    keys = _KNOWN_KEYS.intersection(payload)
    if required <= keys:
        if not all(_is_object(payload[key], or_null=key in NULLABLE) for key in _OBJECT_KEYS[name]):
            return False
    elif not _may_lack_keys(name, keys, action):
        return False
    if "action" in (keys if name in _OPTIONAL_ACTION else required) and (
        action is None or action not in _DISTINCT_ACTIONS.get(name, (action,))
    ):
        return False
    return not _is_of_another_event(name, keys) and _has_its_subject(name, payload)


def _is_object(value: msgspec.Raw, *, or_null: bool) -> bool:
    return bytes(value)[:1] in ((b"{", b"n") if or_null else (b"{",))


def _may_lack_keys(name: str, keys: Set[str], action: str | None) -> bool:
    """Return whether a payload without all required keys can be of the event ``name`` all the same."""
    if name == PING:  # each of its keys is missing in some version of GitHub
        return not keys.isdisjoint(REQUIRED[PING] | {"hook"}) or "repository" not in keys
    return action in _KEYLESS_ACTIONS.get(name, ())


def _has_its_subject(name: str, payload: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether a payload with several of repository, organization and installation has the event's own subject.

    An installation is whole in the events of installations, and only an id in all others. An organization's events
    that have a repository are about members or a new login; without either they cannot be told from a repository's.
    """
    if name not in ("installation", "organization", "repository"):
        return True
    if "repository" in payload and name != "installation":
        about_organization = not _MEMBER_KEYS.isdisjoint(payload) or _has(payload.get("changes"), "login")
        if about_organization is (name == "repository"):
            return False
    if "installation" not in payload or ("repository" not in payload and "organization" not in payload):
        return True
    return _has(payload["installation"], "app_id") is (name == "installation")


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _has(value: msgspec.Raw | None, key: str) -> bool:
    """Return whether a value is an object with this key."""
    try:
        return value is not None and key in _OBJECT.decode(value)
    except msgspec.DecodeError:
        return False


@lru_cache(maxsize=256)
def _is_of_another_event(name: str, keys: frozenset[str]) -> bool:
    """Return whether a payload with these keys belongs to another event that requires the keys of ``name`` as well.

    ``keys`` are of ``_KNOWN_KEYS`` only: a sender has a few such sets, so the cache stays small whatever the payload.
    """
    further = _FURTHER_KEYS.get(name, ())
    return bool(keys & _FORBIDDEN_KEYS.get(name, frozenset())) or any(others <= keys for others in further)


def excluding_keys(name: str, allowed: Set[str]) -> frozenset[str]:
    """Return keys of which none may be in a payload, so that it surely belongs to the event ``name``.

    A payload that has all keys that ``name`` requires, and belongs to another event, has at least one of them.
    ``allowed`` are keys that payloads of ``name`` may have: none of these is returned. Few keys are returned
    (a greedy choice), since each costs the decoder a comparison.
    """
    chosen = set(_FORBIDDEN_KEYS.get(name, ()))
    uncovered = [further - allowed for further in _FURTHER_KEYS.get(name, ())]
    while uncovered := [further for further in uncovered if not further & chosen]:
        counts = Counter(chain.from_iterable(uncovered))
        chosen.add(max(sorted(counts), key=counts.__getitem__))
    return frozenset(chosen)
