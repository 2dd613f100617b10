"""The actions of each event, and a check of event patterns against them.

The sources are those of ``event_types``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from stackit.github.event_types import PING, REQUIRED

_TABLE = """
branch_protection_configuration: disabled enabled
branch_protection_rule: created deleted edited
check_run: completed created requested_action rerequested
check_suite: completed requested rerequested
code_scanning_alert: created appeared_in_branch closed_by_user fixed reopened reopened_by_user
commit_comment: created
custom_property: created deleted promote_to_enterprise updated
custom_property_values: updated
dependabot_alert: created auto_dismissed auto_reopened dismissed fixed reintroduced reopened
deploy_key: created deleted
deployment: created
deployment_protection_rule: requested
deployment_review: requested approved rejected
deployment_status: created
discussion: created answered category_changed closed deleted edited labeled locked pinned reopened transferred
    unanswered unlabeled unlocked unpinned
discussion_comment: created deleted edited
github_app_authorization: revoked
installation: created deleted new_permissions_accepted suspend unsuspend
installation_repositories: added removed
installation_target: renamed
issue_comment: created deleted edited pinned unpinned
issue_dependencies: blocked_by_added blocked_by_removed blocking_added blocking_removed
issues: opened assigned closed deleted demilestoned edited labeled locked milestoned pinned reopened transferred
    typed unassigned unlabeled unlocked unpinned untyped
label: created deleted edited
marketplace_purchase: purchased cancelled changed pending_change pending_change_cancelled
member: added edited removed
membership: added removed
merge_group: checks_requested destroyed
meta: deleted
milestone: created closed deleted edited opened
org_block: blocked unblocked
organization: member_added created deleted member_invited member_removed renamed
package: published updated
personal_access_token_request: created approved cancelled denied
project: created closed deleted edited reopened
project_card: created converted deleted edited moved
project_column: created deleted edited moved
projects_v2: created closed deleted edited reopened
projects_v2_item: created archived converted deleted edited reordered restored
projects_v2_status_update: created deleted edited
pull_request: opened assigned auto_merge_disabled auto_merge_enabled closed converted_to_draft demilestoned dequeued
    edited enqueued labeled locked milestoned ready_for_review reopened review_request_removed review_requested
    synchronize unassigned unlabeled unlocked
pull_request_review: submitted dismissed edited
pull_request_review_comment: created deleted edited
pull_request_review_thread: resolved unresolved
registry_package: published updated
release: published created deleted edited prereleased released unpublished
repository: created anonymous_access_disabled anonymous_access_enabled archived deleted edited privatized publicized
    renamed transferred unarchived
repository_advisory: published reported
repository_dispatch: on-demand
repository_ruleset: created deleted edited
repository_vulnerability_alert: create dismiss reopen resolve
secret_scanning_alert: created assigned publicly_leaked reopened resolved revoked unassigned validated
secret_scanning_alert_location: created
secret_scanning_scan: completed
security_advisory: published performed updated withdrawn
sponsorship: created cancelled edited pending_cancellation pending_tier_change tier_changed
star: created deleted
sub_issues: sub_issue_added sub_issue_removed parent_issue_added parent_issue_removed
team: created added_to_repository deleted edited removed_from_repository
watch: started
workflow_job: queued completed in_progress waiting
workflow_run: completed in_progress requested
"""

# Events of Enterprise Cloud and Enterprise Server alone, and former ones.
_TABLE_OF_OTHERS = """
bypass_request_push_ruleset: cancelled completed created response_dismissed response_submitted
bypass_request_secret_scanning: cancelled completed created response_dismissed response_submitted
cache_sync:
content_reference: created
dismissal_request_code_scanning: created response_submitted
dismissal_request_secret_scanning: cancelled completed created response_dismissed response_submitted
enterprise: anonymous_access_disabled anonymous_access_enabled
exemption_request_push_ruleset: cancelled completed created response_dismissed response_submitted
exemption_request_secret_scanning: cancelled completed created response_dismissed response_submitted
organization_custom_property: created deleted updated
organization_custom_property_values: updated
user: created deleted
"""


def _parsed(table: str) -> Mapping[str, tuple[str, ...]]:
    rows = (row.partition(":") for row in table.strip().replace("\n    ", " ").splitlines())
    return {event: tuple(actions.split()) for event, _, actions in rows}


ACTIONS: Mapping[str, tuple[str, ...]] = _parsed(_TABLE)
"""The actions of every event that has any, the most common one first."""

_KNOWN: Mapping[str, tuple[str, ...]] = {**dict.fromkeys(REQUIRED, ()), **ACTIONS, **_parsed(_TABLE_OF_OTHERS)}
_ANY_ACTION = "repository_dispatch"
_MERGED = ("pull_request", "merged")
_REF_CHANGES = "refs_changed"


def doubt(name: str, action: str | None = None) -> str | None:
    """Return why GitHub is not known to send an event of this name and action, in words; None where it is.

    An ``action`` of None stands for any. GitHub may add events and actions, so nothing is refused for a doubt.
    """
    if name == PING:
        return "a ping is answered by stackit itself, and reaches no handler"
    if name not in _KNOWN:
        if name == _REF_CHANGES:
            return "GitHub has no such event; ref changes of mirrors come to the hook stackit_refs_changed"
        return f"stackit knows no event of GitHub's with this name{_suggestion(name, _KNOWN)}"
    actions = _KNOWN[name]
    if action is None or action in actions or name == _ANY_ACTION:
        return None
    if not actions:
        return f'{name} has no actions; did you mean "{name}"?'
    if (name, action) == _MERGED:
        return 'a merge is a "pull_request.closed" whose payload says so: pull_request.merged'
    return f"stackit knows no such action of {name}{_suggestion(action, actions, f'{name}.')}"


def _suggestion(word: str, words: Collection[str], before: str = "") -> str:
    """Return a question with the most similar of ``words``, prefixed with ``before``.

    Where none is similar, a list of the words instead if there is a prefix, else "".
    """
    near = get_close_matches(word.lower(), words, n=1)
    if near:
        return f'; did you mean "{before}{near[0]}"?'
    return f" (there are: {', '.join(words)})" if before else ""
