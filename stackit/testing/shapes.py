"""Every event that GitHub documents: the objects it shares with others, and the keys that are its own.

The source is the page "Webhook events and payloads" of GitHub's documentation, and the JSON schema of
github.com/octokit/webhooks. Values are made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stackit.testing import subjects
from stackit.testing.objects import API, THEN, organization, repository, thing, user
from stackit.testing.subjects import SHA


class Shape(msgspec.Struct, frozen=True):
    """``common``: the objects that the event shares with others. ``own``: the keys that are its own."""

    common: tuple[str, ...]
    own: Mapping[str, Any]


_REPO = ("repository", "sender")
_ORG = ("organization", "sender")
_BOTH = ("repository", "organization", "sender")
_SENDER = ("sender",)

_SUB_ISSUES = {
    "parent_issue_id": 1,
    "parent_issue": subjects.issue(),
    "parent_issue_repo": repository(),
    "sub_issue_id": 2,
    "sub_issue": subjects.issue(),
}


def _event(event_name: str, common: tuple[str, ...], /, **own: Any) -> tuple[str, Shape]:
    return event_name, Shape(common, own)


SHAPES: Mapping[str, Shape] = dict(
    [
        _event("branch_protection_configuration", _REPO),
        _event("branch_protection_rule", _REPO, rule=thing("rule", name="main")),
        _event("check_run", _REPO, check_run=subjects.check("check_run")),
        _event("check_suite", _REPO, check_suite=subjects.check("check_suite")),
        _event(
            "code_scanning_alert",
            _REPO,
            alert=subjects.alert(rule={"id": "r"}, tool={"name": "scan"}, instances=[]),
            commit_oid=SHA,
            ref="refs/heads/main",
        ),
        _event("commit_comment", _REPO, comment=subjects.on_commit()),
        _event(
            "create", _REPO, ref="fix", ref_type="branch", master_branch="main", description=None, pusher_type="user"
        ),
        _event("custom_property", _ORG, definition={"property_name": "tier", "value_type": "string"}),
        _event(
            "custom_property_values",
            _BOTH,
            new_property_values=[{"property_name": "tier", "value": "1"}],
            old_property_values=[],
        ),
        _event("delete", _REPO, ref="fix", ref_type="branch", pusher_type="user"),
        _event(
            "dependabot_alert",
            _REPO,
            alert=subjects.alert(
                dependency={"scope": "runtime"},
                security_advisory={"severity": "low"},
                security_vulnerability={"severity": "low"},
            ),
        ),
        _event(
            "deploy_key", _REPO, key=thing("key", key="ssh-ed25519 AAAA", title="deploy", verified=True, read_only=True)
        ),
        _event("deployment", _REPO, deployment=subjects.deployment(), workflow=None, workflow_run=None),
        _event(
            "deployment_protection_rule",
            _REPO,
            environment="production",
            event="push",
            deployment_callback_url=f"{API}/callback",
            deployment=subjects.deployment(),
            pull_requests=[],
        ),
        _event("deployment_review", _BOTH, workflow_run=subjects.workflow_run("waiting"), since=THEN),
        _event(
            "deployment_status",
            _REPO,
            deployment=subjects.deployment(),
            deployment_status=thing(
                "deployment_status",
                state="success",
                creator=user(),
                environment="production",
                description="",
                target_url="",
            ),
        ),
        _event("discussion", _REPO, discussion=subjects.discussion()),
        _event(
            "discussion_comment", (*_REPO, "installation"), discussion=subjects.discussion(), comment=subjects.comment()
        ),
        _event("fork", _REPO, forkee=repository("octocat/widget")),
        _event("github_app_authorization", _SENDER),
        _event(
            "gollum",
            _REPO,
            pages=[{"page_name": "Home", "title": "Home", "summary": None, "action": "created", "sha": SHA}],
        ),
        _event("installation", _SENDER, installation=subjects.installation(), repositories=[], requester=None),
        _event(
            "installation_repositories",
            _SENDER,
            installation=subjects.installation(),
            repository_selection="selected",
            repositories_added=[],
            repositories_removed=[],
            requester=None,
        ),
        _event(
            "installation_target",
            (*_ORG, "installation"),
            account=organization(),
            changes={"login": {"from": "octo-old"}},
            target_type="Organization",
        ),
        _event("issue_comment", _REPO, issue=subjects.issue(), comment=subjects.comment()),
        _event(
            "issue_dependencies",
            _BOTH,
            blocked_issue_id=1,
            blocked_issue=subjects.issue(),
            blocking_issue_id=2,
            blocking_issue=subjects.issue(),
            blocking_issue_repo=repository(),
        ),
        _event("issues", _REPO, issue=subjects.issue()),
        _event("label", _REPO, label=subjects.label()),
        _event(
            "marketplace_purchase",
            _SENDER,
            effective_date=THEN,
            marketplace_purchase={
                "account": organization(),
                "billing_cycle": "monthly",
                "unit_count": 1,
                "on_free_trial": False,
                "free_trial_ends_on": None,
                "plan": {"id": 1, "name": "Free"},
                "next_billing_date": None,
            },
        ),
        _event("member", _REPO, member=user("hubot")),
        _event("membership", _ORG, member=user("hubot"), scope="team", team=subjects.team()),
        _event(
            "merge_group",
            _REPO,
            merge_group={
                "head_sha": SHA,
                "head_ref": "refs/heads/gh-readonly-queue/main/pr-1",
                "base_ref": "refs/heads/main",
                "base_sha": "1" * 40,
                "head_commit": subjects.head_commit(),
            },
        ),
        _event("meta", _REPO, hook_id=1, hook=subjects.hook()),
        _event("milestone", _REPO, milestone=subjects.milestone()),
        _event("org_block", _ORG, blocked_user=user("hubot")),
        _event("organization", _ORG),
        _event("package", _REPO, package=subjects.package()),
        _event(
            "page_build",
            _REPO,
            id=1,
            build=thing("build", status="built", error={"message": None}, pusher=user(), commit=SHA, duration=1),
        ),
        _event(
            "personal_access_token_request",
            (*_ORG, "installation"),
            personal_access_token_request=thing("personal_access_token_request", owner=user(), repository_count=1),
        ),
        _event("ping", _REPO, zen="Keep the lights on.", hook_id=1, hook=subjects.hook()),
        _event("project", _REPO, project=thing("project", name="Plan", number=1, state="open")),
        _event("project_card", _REPO, project_card=thing("project_card", note="To do", archived=False)),
        _event("project_column", _REPO, project_column=thing("project_column", name="To do")),
        _event("projects_v2", _ORG, projects_v2=thing("projects_v2", title="Plan", number=1, public=False)),
        _event(
            "projects_v2_item",
            _ORG,
            projects_v2_item=thing(
                "projects_v2_item",
                project_node_id="N_1",
                content_node_id="N_2",
                content_type="Issue",
                creator=user(),
                archived_at=None,
            ),
        ),
        _event(
            "projects_v2_status_update",
            _ORG,
            projects_v2_status_update=thing(
                "projects_v2_status_update", project_node_id="N_1", status="ON_TRACK", body=None
            ),
        ),
        _event("public", _REPO),
        _event("pull_request", _REPO, number=1, pull_request=subjects.pull_request()),
        _event(
            "pull_request_review",
            _REPO,
            pull_request=subjects.pull_request(),
            review=thing(
                "review",
                user=user(),
                body=None,
                commit_id=SHA,
                state="approved",
                submitted_at=THEN,
                author_association="MEMBER",
            ),
        ),
        _event(
            "pull_request_review_comment", _REPO, pull_request=subjects.pull_request(), comment=subjects.on_commit()
        ),
        _event(
            "pull_request_review_thread",
            _REPO,
            pull_request=subjects.pull_request(),
            thread={"node_id": "N_1", "comments": [subjects.on_commit()]},
        ),
        _event("push", _REPO),
        _event("registry_package", _REPO, registry_package=subjects.package()),
        _event(
            "release",
            _REPO,
            release=thing(
                "release",
                tag_name="v1.0",
                target_commitish="main",
                name="1.0",
                draft=False,
                prerelease=False,
                author=user(),
                published_at=THEN,
                assets=[],
                body=None,
            ),
        ),
        _event("repository", _REPO),
        _event("repository_advisory", _REPO, repository_advisory=subjects.advisory()),
        _event("repository_dispatch", (*_REPO, "installation"), branch="main", client_payload={}),
        _event("repository_import", _REPO, status="success"),
        _event(
            "repository_ruleset",
            _REPO,
            repository_ruleset=thing("repository_ruleset", name="main", target="branch", enforcement="active"),
        ),
        _event(
            "repository_vulnerability_alert",
            _REPO,
            alert=subjects.alert(affected_range="< 2", affected_package_name="left", severity="low"),
        ),
        _event("secret_scanning_alert", _REPO, alert=subjects.secret_alert()),
        _event(
            "secret_scanning_alert_location",
            _REPO,
            alert=subjects.secret_alert(),
            location={"type": "commit", "details": {"path": "a", "start_line": 1, "commit_sha": SHA}},
        ),
        _event("secret_scanning_scan", _REPO, type="git", source="github", started_at=THEN, completed_at=THEN),
        _event("security_advisory", (), security_advisory=subjects.advisory()),
        _event(
            "security_and_analysis",
            _REPO,
            changes={"from": {"security_and_analysis": {"secret_scanning": {"status": "disabled"}}}},
        ),
        _event(
            "sponsorship",
            _SENDER,
            sponsorship={
                "node_id": "N_1",
                "created_at": THEN,
                "sponsorable": user(),
                "sponsor": user("hubot"),
                "privacy_level": "public",
                "tier": {"id": 1, "name": "$1 a month"},
            },
        ),
        _event("star", _REPO, starred_at=None),
        _event(
            "status",
            _REPO,
            id=1,
            sha=SHA,
            name="octo/widget",
            context="ci",
            state="success",
            description=None,
            target_url=None,
            branches=[{"name": "main", "commit": {"sha": SHA}, "protected": False}],
            commit={
                "sha": SHA,
                "commit": {"message": "A change"},
                "author": user(),
                "committer": user(),
                "parents": [],
            },
            created_at=THEN,
            updated_at=THEN,
        ),
        _event("sub_issues", _BOTH, **_SUB_ISSUES),
        _event("team", _ORG, team=subjects.team()),
        _event("team_add", _BOTH, team=subjects.team()),
        _event("watch", _REPO),
        _event("workflow_dispatch", _REPO, workflow=".github/workflows/ci.yml", ref="refs/heads/main", inputs=None),
        _event("workflow_job", _REPO, workflow_job=subjects.workflow_job()),
        _event("workflow_run", _REPO, workflow=subjects.workflow(), workflow_run=subjects.workflow_run()),
    ]
)
