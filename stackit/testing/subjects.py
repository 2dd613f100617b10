"""The subjects of events: issues, pull requests, checks, deployments and the like, each with its main keys.

The source is the page "Webhook events and payloads" of GitHub's documentation.
"""

from __future__ import annotations

from stackit.testing.objects import API, SITE, THEN, Commit, Json, commit, repository, thing, user

SHA = "2" * 40


def issue() -> Json:
    """An ``issue``."""
    return thing(
        "issue",
        number=1,
        title="It does not start",
        state="open",
        state_reason=None,
        locked=False,
        active_lock_reason=None,
        user=user(),
        assignee=None,
        assignees=[],
        labels=[],
        milestone=None,
        comments=0,
        closed_at=None,
        author_association="CONTRIBUTOR",
        body="What I did, and what I saw.",
        reactions={"total_count": 0},
        **addresses("issues/1", repository="", labels="/labels{/name}", comments="/comments", events="/events"),
    )


def pull_request() -> Json:
    """A ``pull_request``: an issue with branches."""
    return issue() | {
        "head": branch("fix", SHA),
        "base": branch("main", "1" * 40),
        "draft": False,
        "merged": False,
        "merged_at": None,
        "merge_commit_sha": None,
        "mergeable": None,
        "requested_reviewers": [],
        "requested_teams": [],
        "auto_merge": None,
        **dict.fromkeys(("commits", "additions", "deletions", "changed_files"), 1),
        **addresses("pulls/1", diff=".diff", patch=".patch", commits="/commits", statuses="/statuses"),
    }


def branch(name: str, sha: str) -> Json:
    """The ``head`` or ``base`` of a pull request."""
    return {"label": f"octo:{name}", "ref": name, "sha": sha, "user": user("octo"), "repo": repository()}


def addresses(path: str, **paths: str) -> Json:
    """``KEY_url`` keys: each the address of ``path`` with an ending."""
    base = f"{API}/repos/octo/widget"
    return {f"{key}_url": f"{base}/{path}{end}" if end else base for key, end in paths.items()}


def comment() -> Json:
    """A ``comment``."""
    return thing("comment", user=user(), author_association="MEMBER", body="Thank you.", reactions={"total_count": 0})


def on_commit() -> Json:
    """The ``comment`` of a ``commit_comment``."""
    return comment() | {"commit_id": SHA, "path": None, "position": None, "line": None}


def head_commit() -> Json:
    """A ``head_commit``."""
    return commit(Commit(id=SHA, tree="3" * 40, message="A change"), f"{SITE}/octo/widget")


def check(kind: str) -> Json:
    """A ``check_run`` or ``check_suite``."""
    more = {"app": app(), "pull_requests": [], "head_sha": SHA, "status": "completed", "conclusion": "success"}
    if kind == "check_run":
        suite = {"id": 2, "head_branch": "main", "head_sha": SHA, "status": "completed"}
        output = {"title": None, "summary": None, "text": None, "annotations_count": 0}
        times = {"started_at": THEN, "completed_at": THEN}
        return thing(kind, name="tests", external_id="", check_suite=suite, output=output, **times, **more)
    span = {"head_branch": "main", "before": "1" * 40, "after": SHA, "head_commit": head_commit()}
    return thing(kind, latest_check_runs_count=1, check_runs_url=f"{API}/check-runs", **span, **more)


def app() -> Json:
    """A GitHub App."""
    return thing("app", slug="octo-app", name="Octo App", owner=user("octo"), permissions={}, events=["push"])


def installation() -> Json:
    """An ``installation`` of an App."""
    chosen = {"repository_selection": "selected", "permissions": {"contents": "read"}, "events": ["push"]}
    return thing("installation", account=user("octo"), app_id=3, target_id=4, target_type="Organization", **chosen)


def hook() -> Json:
    """The ``hook`` of a ping."""
    config = {"url": "https://example.com/api/v1/webhooks/github", "content_type": "json", "insecure_ssl": "0"}
    urls = {"ping_url": f"{API}/hook/pings", "deliveries_url": f"{API}/hook/deliveries"}
    return thing("hook", type="Repository", name="web", active=True, events=["push"], config=config, **urls)


def deployment() -> Json:
    """A ``deployment``."""
    place: Json = {
        "environment": "production",
        "original_environment": "production",
        "description": None,
        "payload": {},
    }
    return thing("deployment", sha=SHA, ref="main", task="deploy", creator=user(), **place)


def workflow() -> Json:
    """A ``workflow``."""
    return thing("workflow", name="CI", path=".github/workflows/ci.yml", state="active")


def workflow_run(status: str = "completed") -> Json:
    """A ``workflow_run``."""
    what = {"name": "CI", "event": "push", "path": ".github/workflows/ci.yml", "run_number": 1, "run_attempt": 1}
    where = {"head_branch": "main", "head_sha": SHA, "head_commit": head_commit(), "workflow_id": 5}
    return thing("workflow_run", status=status, conclusion="success", pull_requests=[], actor=user(), **what, **where)


def workflow_job() -> Json:
    """A ``workflow_job``."""
    what = {"run_id": 6, "run_attempt": 1, "name": "tests", "labels": ["ubuntu-latest"], "steps": []}
    return thing("workflow_job", head_sha=SHA, status="queued", conclusion=None, started_at=THEN, **what)


def discussion() -> Json:
    """A ``discussion``."""
    answer = {"answer_html_url": None, "answer_chosen_at": None, "answer_chosen_by": None}
    return issue() | {"category": {"id": 8, "name": "Ideas", "slug": "ideas", "is_answerable": True}, **answer}


def team() -> Json:
    """A ``team``."""
    about = {"name": "core", "slug": "core", "description": None, "privacy": "closed", "permission": "pull"}
    return thing("team", members_url=f"{API}/teams/1/members{{/member}}", **about)


def package() -> Json:
    """A ``package``."""
    about = {"name": "widget", "namespace": "octo", "description": None, "ecosystem": "container"}
    return thing("package", package_type="CONTAINER", owner=user("octo"), package_version={"id": 9}, **about)


def alert(**own: object) -> Json:
    """An ``alert`` of any scanner; ``own`` are the scanner's keys."""
    gone = dict.fromkeys(("dismissed_at", "dismissed_by", "dismissed_reason", "dismissed_comment", "fixed_at"))
    return thing("alert", number=1, state="open", **gone, **own)


def secret_alert() -> Json:
    """The ``alert`` of a secret that was found."""
    return alert(secret_type="api_key", resolution=None, resolved_at=None, resolved_by=None)  # noqa: S106 - a name of GitHub's


def advisory() -> Json:
    """A ``security_advisory``."""
    about = {"summary": "A bug", "description": "", "severity": "low", "cve_id": None, "ghsa_id": "GHSA-0000-0000-0000"}
    lists: Json = {"cwes": [], "identifiers": [], "references": [], "vulnerabilities": []}
    times = {"published_at": THEN, "withdrawn_at": None}
    return thing("advisory", cvss={"score": 0.0, "vector_string": None}, **about, **lists, **times)


def label() -> Json:
    """A ``label``."""
    return thing("label", name="bug", color="d73a4a", default=True, description=None)


def milestone() -> Json:
    """A ``milestone``."""
    about = {"title": "1.0", "description": None, "state": "open", "due_on": None, "closed_at": None}
    return thing("milestone", number=1, creator=user(), open_issues=1, closed_issues=0, **about)
