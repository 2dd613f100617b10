"""What tells the events that GitHub documents apart: keys at the top of their payloads.

The header that names an event is not signed, so a signed body could come back under
another name. These keys are in every variant of an event, so a body that lacks one is
something else. Facts from GitHub's documentation, "Webhook events and payloads", from its
OpenAPI descriptions of github.com, Enterprise Cloud and Enterprise Server, and from the
examples and JSON schemas that the octokit project keeps, back to Enterprise Server 3.1.
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

# Required keys whose value is something else than an object.
# fmt: off
_NOT_OBJECTS = frozenset(
    {
        "action", "blocked_issue_id", "blocking_issue_id", "branch", "client_payload", "commit_oid", "context",
        "hook_id", "id", "inputs", "master_branch", "new_property_values", "number", "old_property_values",
        "pages", "parent_issue_id", "pusher_type", "ref", "ref_type", "repositories_added",
        "repositories_removed", "scope", "sha", "since", "source", "starred_at", "state", "status",
        "sub_issue_id", "target_type", "type", "workflow", "zen",
    }
)
# fmt: on

_OBJECTS: Mapping[str, frozenset[str]] = {name: keys - _NOT_OBJECTS for name, keys in REQUIRED.items()}

NULLABLE = frozenset({"blocked_user", "member"})
"""Required keys whose value may be null: people, whose accounts may be gone."""

# Events that had no action once: Enterprise Server before 3.6, and GitHub AE.
_MAY_LACK_ACTION = frozenset({"deployment", "deployment_status"})

# Events whose payloads have little of their own are told by their actions instead.
_ACTIONS: Mapping[str, frozenset[str]] = {
    "branch_protection_configuration": frozenset({"enabled", "disabled"}),
    "deployment_protection_rule": frozenset({"requested"}),
    "github_app_authorization": frozenset({"revoked"}),
    "watch": frozenset({"started"}),
}

# Actions with which an event needs none of its other keys (Enterprise Server).
_ENOUGH: Mapping[str, frozenset[str]] = {
    "repository": frozenset({"anonymous_access_disabled", "anonymous_access_enabled"}),
}

_ABOUT_MEMBERS = frozenset({"invitation", "membership"})
# What other events are about; an event about a repository, an organization or an installation itself has none of it.
_SUBJECTS = frozenset().union(*REQUIRED.values()) - {"action", "changes", "installation", "organization", "repository"}

# Keys that an event never has, where another event has all that this one has to have.
_ABSENT: Mapping[str, Set[str]] = {
    "check_run": frozenset({"deployment_status"}),
    "delete": frozenset({"master_branch"}),
    "deployment": frozenset({"check_run", "check_suite", "deployment_callback_url", "workflow_job"}),
    "deployment_protection_rule": frozenset({"check_suite", "check_run", "workflow_run", "workflow_job"}),
    "github_app_authorization": frozenset({"repository", "organization"}),
    "installation": _SUBJECTS | _ABOUT_MEMBERS,
    "label": frozenset({"issue", "pull_request", "discussion"}),
    "member": frozenset({"scope"}),
    "milestone": frozenset({"issue", "pull_request"}),
    "organization": _SUBJECTS,
    "ping": _SUBJECTS - {"hook", "hook_id", "zen"} | {"action"},
    "public": frozenset({"commits", "hook", "hook_id", "ref", "zen"}),
    "push": frozenset({"cache_location", "hook", "hook_id", "zen"}),
    "repository": _SUBJECTS | {"content_reference", "exemption_request", "user"},
    "security_and_analysis": frozenset({"action"}),
    "team_add": frozenset({"action"}),
    "workflow_run": frozenset({"deployment", "reviewers", "since"}),
}

# A body that has all keys of an event that needs more than this one is a body of that event.
_MORE: Mapping[str, tuple[frozenset[str], ...]] = {
    name: tuple(more - keys for more in REQUIRED.values() if more > keys)
    for name, keys in REQUIRED.items()
    if name not in _ACTIONS
}

# Every key that this module asks for.
_TOLD_BY = frozenset().union(*REQUIRED.values(), *_ABSENT.values())


def has_shape(name: str, payload: Mapping[str, msgspec.Raw], action: str | None) -> bool:
    """Whether ``payload``, key by key, can be that of the event ``name``, with this action (None for no text).

    An event that is not documented may look like anything.
    """
    required = REQUIRED.get(name)
    if required is None:
        return True
    keys = _TOLD_BY.intersection(payload)
    if required <= keys:
        if not all(_is_object(payload[key], or_null=key in NULLABLE) for key in _OBJECTS[name]):
            return False
    elif not _is_enough(name, keys, action):
        return False
    if "action" in (keys if name in _MAY_LACK_ACTION else required) and (
        action is None or action not in _ACTIONS.get(name, (action,))
    ):
        return False
    return not _is_another(name, keys) and _is_about(name, payload)


def _is_object(value: msgspec.Raw, *, or_null: bool) -> bool:
    return bytes(value)[:1] in ((b"{", b"n") if or_null else (b"{",))


def _is_enough(name: str, keys: Set[str], action: str | None) -> bool:
    """Whether a body without all required keys is of the event ``name`` all the same."""
    if name == PING:  # none of its keys is always there
        return not keys.isdisjoint(REQUIRED[PING] | {"hook"}) or "repository" not in keys
    return action in _ENOUGH.get(name, ())


def _is_about(name: str, payload: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a body that names several of repository, organization and installation is about the one of its event.

    An installation is whole in its own events, and an id in all others. An organization's own events that name a
    repository are about members, or a new login; one that has neither is as good as a repository's.
    """
    if name not in ("installation", "organization", "repository"):
        return True
    if "repository" in payload and name != "installation":
        about_organization = not _ABOUT_MEMBERS.isdisjoint(payload) or _has(payload.get("changes"), "login")
        if about_organization is (name == "repository"):
            return False
    if "installation" not in payload or ("repository" not in payload and "organization" not in payload):
        return True
    return _has(payload["installation"], "app_id") is (name == "installation")


_OUTLINE = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _has(value: msgspec.Raw | None, key: str) -> bool:
    """Whether a value is an object with this key."""
    try:
        return value is not None and key in _OUTLINE.decode(value)
    except msgspec.DecodeError:
        return False


@lru_cache(maxsize=256)
def _is_another(name: str, keys: frozenset[str]) -> bool:
    """Whether a body with these keys is of an event that needs more, or has what this one never has.

    What one sender sends has a few sets of keys; none has others than ``_TOLD_BY``, or a body of many
    keys would be remembered with all of them.
    """
    return bool(keys & _ABSENT.get(name, frozenset())) or any(more <= keys for more in _MORE.get(name, ()))


def telling_keys(name: str, but: Set[str]) -> frozenset[str]:
    """Keys of which every body that is of another event, though it has all that ``name`` needs, has one.

    None that is in ``but``: what bodies of this event may have themselves. The fewest that do, nearly.
    """
    telling = set(_ABSENT.get(name, ()))
    untold = [more - but for more in _MORE.get(name, ())]
    while untold := [more for more in untold if not more & telling]:
        most = Counter(chain.from_iterable(untold))
        telling.add(max(sorted(most), key=most.__getitem__))
    return frozenset(telling)
