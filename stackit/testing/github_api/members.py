"""Who belongs to which organization and team."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit.testing.github_api.owners import Owner

State = Literal["active", "pending"]
Role = Literal["admin", "member", "maintainer"]


class Membership(msgspec.Struct, kw_only=True, eq=False):
    """A person in an organization or a team. One that is ``pending`` was invited, and is no member."""

    person: Owner
    state: State = "active"
    role: Role = "member"
    public: bool = False


class Team(msgspec.Struct, kw_only=True, eq=False):
    """A team of an organization. Members of its children count as its own."""

    organization: Owner
    slug: str
    id: int
    parent: Team | None = None
    members: dict[int, Membership] = {}


class Members:
    """Every membership. People are known by their ids: a login may change."""

    def __init__(self) -> None:
        self._organizations: dict[int, dict[int, Membership]] = {}
        self._teams: dict[tuple[int, str], Team] = {}

    def join(
        self,
        organization: Owner,
        person: Owner,
        *,
        state: State = "active",
        role: Role = "member",
        public: bool = False,
    ) -> None:
        """Make a person a member of an organization, or invite them (``pending``)."""
        members = self._organizations.setdefault(organization.id, {})
        members[person.id] = Membership(person=person, state=state, role=role, public=public)

    def leave(self, organization: Owner, person: Owner) -> None:
        """Take a person out of an organization and all its teams."""
        self._organizations.get(organization.id, {}).pop(person.id, None)
        for each in self._teams.values():
            if each.organization is organization:
                each.members.pop(person.id, None)

    def of(self, organization: Owner) -> list[Membership]:
        """Return the memberships of an organization, pending ones too."""
        return list(self._organizations.get(organization.id, {}).values())

    def membership(self, organization: Owner, person: Owner) -> Membership | None:
        """Return a person's membership of an organization, or None."""
        return self._organizations.get(organization.id, {}).get(person.id)

    def team(self, organization: Owner, slug: str, *, parent: Team | None = None) -> Team:
        """Return a team, made where there is none."""
        key = organization.id, slug
        if key not in self._teams:
            self._teams[key] = Team(organization=organization, slug=slug, id=5_001 + len(self._teams), parent=parent)
        return self._teams[key]

    def find_team(self, organization: Owner, slug: str) -> Team | None:
        """Return a team, or None."""
        return self._teams.get((organization.id, slug.lower()))

    def join_team(self, team: Team, person: Owner, *, state: State = "active", role: Role = "member") -> None:
        """Make a person a member of a team."""
        team.members[person.id] = Membership(person=person, state=state, role=role)

    def team_membership(self, team: Team, person: Owner) -> Membership | None:
        """Return a person's membership of a team or of one below it, or None."""
        if person.id in team.members:
            return team.members[person.id]
        children = (each for each in self._teams.values() if each.parent is team)
        return next((found for each in children if (found := self.team_membership(each, person)) is not None), None)
