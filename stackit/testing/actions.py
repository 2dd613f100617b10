"""The keys of a payload that come only with one of the actions.

The source is the page "Webhook events and payloads" of GitHub's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

from stackit.github.actions import ACTIONS, doubt
from stackit.testing import subjects
from stackit.testing.objects import API, THEN, Json, repository, thing, user
from stackit.testing.subjects import SHA

__all__ = ["ACTIONS", "ONLY_WITH", "doubt"]

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
