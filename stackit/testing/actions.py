"""What can happen in each event, and the keys that come only with one of the actions.

The source is the page "Webhook events and payloads" of GitHub's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

from stackit.testing import subjects
from stackit.testing.objects import API, THEN, Json, repository, thing, user
from stackit.testing.subjects import SHA

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
organization: member_added deleted member_invited member_removed renamed
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
repository: created archived deleted edited privatized publicized renamed transferred unarchived
repository_advisory: published reported
repository_dispatch: on-demand
repository_ruleset: created deleted edited
repository_vulnerability_alert: create dismiss reopen resolve
secret_scanning_alert: created assigned publicly_leaked reopened resolved revoked unassigned validated
secret_scanning_alert_location: created
secret_scanning_scan: completed
security_advisory: published updated withdrawn
sponsorship: created cancelled edited pending_cancellation pending_tier_change tier_changed
star: created deleted
sub_issues: sub_issue_added sub_issue_removed parent_issue_added parent_issue_removed
team: created added_to_repository deleted edited removed_from_repository
watch: started
workflow_job: queued completed in_progress waiting
workflow_run: completed in_progress requested
"""


def _parsed(table: str) -> Mapping[str, tuple[str, ...]]:
    rows = (row.partition(":") for row in table.strip().replace("\n    ", " ").splitlines())
    return {event: tuple(actions.split()) for event, _, actions in rows}


ACTIONS: Mapping[str, tuple[str, ...]] = _parsed(_TABLE)
"""The actions of every event that has any, the usual one first."""

_MEMBERSHIP = {"url": f"{API}/orgs/octo/memberships/hubot", "state": "active", "role": "member", "user": user("hubot")}
ONLY_WITH: Mapping[str, Json] = {
    "check_run.requested_action": {"requested_action": {"identifier": "fix"}},
    "custom_property.deleted": {"definition": {"property_name": "tier"}},
    "deployment_review.requested": {
        "environment": "production",
        "requestor": user(),
        "reviewers": [],
        "workflow_job_run": {"id": 6, "status": "waiting"},
    },
    "discussion.answered": {"answer": subjects.comment()},
    "discussion.category_changed": {"changes": {"category": {"from": {"id": 8, "name": "Ideas"}}}},
    "discussion.labeled": {"label": subjects.label()},
    "discussion.unanswered": {"old_answer": subjects.comment()},
    "discussion.unlabeled": {"label": subjects.label()},
    "issues.assigned": {"assignee": user()},
    "issues.demilestoned": {"milestone": subjects.milestone()},
    "issues.labeled": {"label": subjects.label()},
    "issues.milestoned": {"milestone": subjects.milestone()},
    "issues.unassigned": {"assignee": user()},
    "issues.unlabeled": {"label": subjects.label()},
    "merge_group.destroyed": {"reason": "merged"},
    "organization.member_added": {"membership": _MEMBERSHIP},
    "organization.member_invited": {"invitation": thing("invitation", role="direct_member"), "user": user("hubot")},
    "organization.member_removed": {"membership": _MEMBERSHIP},
    "organization.renamed": {"changes": {"login": {"from": "octo-old"}}},
    "project_card.converted": {"changes": {"note": {"from": "To do"}}},
    "projects_v2_item.archived": {"changes": {"archived_at": {"from": None, "to": THEN}}},
    "projects_v2_item.converted": {"changes": {"content_type": {"from": "DraftIssue", "to": "Issue"}}},
    "projects_v2_item.reordered": {"changes": {"previous_projects_v2_item_node_id": {"from": None, "to": "N_2"}}},
    "projects_v2_item.restored": {"changes": {"archived_at": {"from": THEN, "to": None}}},
    "pull_request.assigned": {"assignee": user()},
    "pull_request.auto_merge_disabled": {"reason": "disabled by a person"},
    "pull_request.dequeued": {"reason": "MERGE"},
    "pull_request.demilestoned": {"milestone": subjects.milestone()},
    "pull_request.labeled": {"label": subjects.label()},
    "pull_request.milestoned": {"milestone": subjects.milestone()},
    "pull_request.review_request_removed": {"requested_reviewer": user("hubot")},
    "pull_request.review_requested": {"requested_reviewer": user("hubot")},
    "pull_request.synchronize": {"before": "1" * 40, "after": SHA},
    "pull_request.unassigned": {"assignee": user()},
    "pull_request.unlabeled": {"label": subjects.label()},
    "repository.renamed": {"changes": {"repository": {"name": {"from": "gadget"}}}},
    "repository.transferred": {"changes": {"owner": {"from": {"user": user()}}}},
    "sponsorship.pending_cancellation": {"effective_date": THEN},
    "sponsorship.pending_tier_change": {"effective_date": THEN, "changes": {"tier": {"from": {"id": 1}}}},
    "sponsorship.tier_changed": {"changes": {"tier": {"from": {"id": 1}}}},
    "star.created": {"starred_at": THEN},
    "team.added_to_repository": {"repository": repository()},
    "team.removed_from_repository": {"repository": repository()},
}
"""Keys by ``event.action``."""
