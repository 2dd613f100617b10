"""Who belongs to which organization and team."""

from __future__ import annotations

from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, forbidden, not_found
from stackit.testing.github_api.members import Members, Membership
from stackit.testing.github_api.owners import Kind, Owner, Owners
from stackit.testing.github_api.paging import page_of
from stackit.testing.github_api.router import Router
from stackit.testing.objects import Json


class MembershipRoutes:
    """The routes of memberships. An installation needs ``members`` to see who belongs to an organization."""

    def __init__(self, owners: Owners, members: Members) -> None:
        self._owners = owners
        self._members = members

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("GET", "/user/memberships/orgs/{org}", self._own_membership, access="token")
        router.add("GET", "/orgs/{org}/memberships/{username}", self._membership, access="token")
        router.add("GET", "/orgs/{org}/members", self._list, access="token")
        router.add("GET", "/orgs/{org}/members/{username}", self._is_member)
        router.add("GET", "/orgs/{org}/public_members/{username}", self._is_public_member)
        router.add("GET", "/orgs/{org}/teams/{team_slug}/memberships/{username}", self._team_membership, access="token")

    def _own_membership(self, request: ApiRequest) -> ApiAnswer:
        person = request.token.person
        if person is None:
            raise forbidden()
        organization = self._owner(request, "org", "Organization")
        return ApiAnswer(body=self._shown(request, organization, self._members.membership(organization, person)))

    def _membership(self, request: ApiRequest) -> ApiAnswer:
        organization = self._owner(request, "org", "Organization")
        self._check_insider(request, organization)
        person = self._owner(request, "username")
        return ApiAnswer(body=self._shown(request, organization, self._members.membership(organization, person)))

    def _list(self, request: ApiRequest) -> ApiAnswer:
        organization = self._owner(request, "org", "Organization")
        inside = self._is_insider(request, organization)
        found = [each for each in self._members.of(organization) if each.state == "active" and (inside or each.public)]
        page, headers = page_of(request, found)
        return ApiAnswer(body=[each.person.json() for each in page], headers=headers)

    def _is_member(self, request: ApiRequest) -> ApiAnswer:
        organization = self._owner(request, "org", "Organization")
        person = self._owner(request, "username")
        found = self._members.membership(organization, person)
        if not self._is_insider(request, organization):
            if found is not None and found.state == "active" and found.public:
                return ApiAnswer(status=204)
            place = f"{request.api_url}/orgs/{organization.login}/public_members/{person.login}"
            return ApiAnswer(status=302, headers={"Location": place})
        if found is None or found.state != "active":
            raise ApiRefused(404, "User does not exist or is not a member of the organization")
        return ApiAnswer(status=204)

    def _is_public_member(self, request: ApiRequest) -> ApiAnswer:
        organization = self._owner(request, "org", "Organization")
        found = self._members.membership(organization, self._owner(request, "username"))
        if found is None or found.state != "active" or not found.public:
            raise not_found()
        return ApiAnswer(status=204)

    def _team_membership(self, request: ApiRequest) -> ApiAnswer:
        organization = self._owner(request, "org", "Organization")
        self._check_insider(request, organization)
        team = self._members.find_team(organization, request.parameters["team_slug"])
        found = None if team is None else self._members.team_membership(team, self._owner(request, "username"))
        if team is None or found is None:
            raise not_found()
        url = f"{request.api_url}/organizations/{organization.id}/team/{team.id}/memberships/{found.person.login}"
        return ApiAnswer(body={"url": url, "role": found.role, "state": found.state})

    def _shown(self, request: ApiRequest, organization: Owner, found: Membership | None) -> Json:
        if found is None:
            raise not_found()
        place = f"{request.api_url}/orgs/{organization.login}"
        return {
            "url": f"{place}/memberships/{found.person.login}",
            "state": found.state,
            "role": found.role,
            "organization_url": place,
            "organization": organization.organization(),
            "user": found.person.json(),
        }

    def _check_insider(self, request: ApiRequest, organization: Owner) -> None:
        if not self._is_insider(request, organization):
            if request.token.installation is not None:
                raise forbidden()
            raise ApiRefused(403, "You must be a member of the organization to see its memberships.")

    def _is_insider(self, request: ApiRequest, organization: Owner) -> bool:
        """Return whether the caller sees more than public members."""
        token = request.caller.token
        if token is None:
            return False
        if token.installation is not None:
            return token.owner is organization and token.may("members")
        found = None if token.person is None else self._members.membership(organization, token.person)
        return found is not None and found.state == "active"

    def _owner(self, request: ApiRequest, parameter: str, kind: Kind | None = None) -> Owner:
        found = self._owners.find(request.parameters[parameter])
        if found is None or kind not in (None, found.kind):
            raise not_found()
        return found
