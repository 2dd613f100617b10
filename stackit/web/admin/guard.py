"""Protect the admin side: check ``Host``, find out who asks, and refuse what other sites have a browser send."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from stackit.api.admin import RequestHead, Response, error
from stackit.config.login import LoginConfig
from stackit.web.admin.asker import Asker
from stackit.web.sessions.cookies import Cookies
from stackit.web.sessions.origins import origin_of_host, origin_of_url, parse_origin
from stackit.web.sessions.session import PREFIX, Kind, Session, csrf_of, proof_of
from stackit.web.sessions.sessions import Sessions

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?", re.ASCII)
_FORM = b"application/x-www-form-urlencoded"


class Guard:
    """The checks of a request to the admin side.

    ``tokens`` returns the bearer tokens that are valid now. If it is None, there are none; if it returns none, each was
    revoked. Where there are none, and people do not log in with an App either, everybody is an operator. ``hosts`` are
    names of the listener beside its own, as in ``Host``; their port is ignored. ``url`` is where browsers reach it.
    """

    def __init__(
        self,
        *,
        tokens: Callable[[], Sequence[str]] | None,
        hosts: Collection[str],
        label: Callable[[str], str] = lambda _: "a token",
        sessions: Sessions | None = None,
        login: LoginConfig = LoginConfig(),  # noqa: B008 - it is frozen
        url: str | None = None,
    ) -> None:
        """``label`` returns the name of a token for people."""
        self._tokens = tokens
        self._label = label
        self._hosts = _OWN_NAMES | {name for name in map(_name, hosts) if name is not None}
        self._sessions = sessions
        self._login = login
        self._url = None if url is None else origin_of_url(url)
        self.cookies = Cookies(url)

    @property
    def is_closed(self) -> bool:
        """Whether one has to be known to change anything."""
        return self._tokens is not None or self._login.app is not None

    @property
    def has_tokens(self) -> bool:
        """Whether people may log in by a bearer token."""
        return self._tokens is not None

    # -- the host -----------------------------------------------------------------

    def refuse_host(self, head: RequestHead, address: str) -> Response | None:
        """Return the answer that refuses a request for a host that this is not, or None.

        ``address`` is the local address of the connection.
        """
        if self._known_host(head, address):
            return None
        return error(421, "unknown Host: use the listener's own name, or add yours to admin.hosts")

    def _known_host(self, head: RequestHead, address: str) -> bool:
        # A page whose name resolves to this address (DNS rebinding) sends its own name as Host. The port does not
        # matter: it gains nothing by choosing one, and a forwarded port differs from the listener's.
        name = _name(_only(head, b"host"))
        return name is not None and (name in self._hosts or name == address.lower())

    # -- who asks -----------------------------------------------------------------

    def asker(self, head: RequestHead, peer: str, *, is_seen: bool = True) -> Asker | None:
        """Return who asks, None for somebody who may not even look.

        ``peer`` is the name for people of one who is not known. A session does not idle if it ``is_seen`` by this.
        """
        if not self.is_closed:
            return Asker(by=peer, role="operator")
        scheme, _, given = _only(head, b"authorization").partition(" ")
        if scheme.lower() == "bearer":  # a wrong one is refused, also where everybody may look: its owner has to know
            return self._of_bearer_token(given.strip(), is_seen=is_seen)
        token = self.cookies.read(head)
        found = None if token is None else self._of_session(token, "browser", is_seen=is_seen)
        if found is not None:
            return found
        return Asker(by=peer, role="viewer") if self._login.anonymous == "read" else None

    def _unknown_token(self, head: RequestHead) -> str | None:
        """Return the token of a session that another node may know, and this one does not yet."""
        if self._sessions is None or not self.is_closed:
            return None
        scheme, _, given = _only(head, b"authorization").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else self.cookies.read(head)
        return token if token is not None and self._sessions.may_be_known(token) else None

    def is_unsure(self, head: RequestHead) -> bool:
        """Return whether it takes a look at the journal to know who asks."""
        return self._unknown_token(head) is not None

    async def look_up(self, head: RequestHead) -> bool:
        """Look who asks; return whether there is a session. Only where this is not known."""
        token = self._unknown_token(head)
        return token is not None and self._sessions is not None and await self._sessions.look_up(token)

    async def settled(self) -> None:
        """Return once other nodes can know the sessions that were begun and ended here."""
        if self._sessions is not None:
            await self._sessions.settled()

    def _of_bearer_token(self, given: str, *, is_seen: bool) -> Asker | None:
        if given.startswith(PREFIX):
            found = self._of_session(given, "shell", is_seen=is_seen)
            if found is not None:
                return found
        label = self.token_label(given)
        return None if label is None else Asker(by=label, role="operator", is_known=True)

    def _of_session(self, token: str, kind: Kind, *, is_seen: bool) -> Asker | None:
        session = None if self._sessions is None else self._sessions.find(token, kind, is_seen=is_seen)
        if session is None or self._sessions is None:
            return None
        if not self._still_counts(session, token):
            if session.proof:
                self._sessions.end(session.key)  # its bearer token was revoked
            return None
        person = session.person
        return Asker(by=person.name, role=person.role, is_known=True, csrf=csrf_of(token), session=session.key)

    def _still_counts(self, session: Session, token: str) -> bool:
        """Return False where the bearer token, or the App, by which somebody logged in is no longer in use."""
        if not session.proof:
            return self._login.app is not None
        valid = [hmac.compare_digest(session.proof, proof_of(token, each)) for each in self._valid()]
        return any(valid)

    def token_label(self, given: str) -> str | None:
        """Return the name for people of a bearer token that is valid now; None for one that is not."""
        wanted = given.encode("utf-8", "surrogatepass")
        # Every token is compared, so that the time of the answer does not tell which one matched.
        found = [each for each in self._valid() if hmac.compare_digest(wanted, each.encode())]
        return self._label(found[0]) if found else None

    def _valid(self) -> Sequence[str]:
        return [each for each in self._tokens() if each] if self._tokens is not None else ()

    # -- requests that change something ---------------------------------------------

    def refuse_foreign(self, head: RequestHead, *, takes_forms: bool) -> Response | None:
        """Return the answer that refuses what a page of another site may have had a browser send, or None."""
        if head.method in SAFE_METHODS or has_header(head):
            return None
        if not takes_forms:
            return error(403, "this method needs the header X-Stackit-CSRF: 1")
        if not is_form(head) or self.own_origin(head) is None:
            return error(403, "this takes a form of its own page, or the header X-Stackit-CSRF: 1")
        return None

    def refuse_form(self, head: RequestHead, asker: Asker, form: Mapping[str, str]) -> Response | None:
        """Return the answer that refuses a form which is not of the session that sends it, or None."""
        given = form.get("csrf", "").encode("utf-8", "surrogatepass")
        if has_header(head) or not asker.csrf or hmac.compare_digest(given, asker.csrf.encode()):
            return None
        return error(403, "this form is of another login: load its page again")

    def own_origin(self, head: RequestHead) -> str | None:
        """Return the origin of the page that has a request sent, if it is a page of this very host."""
        text = _only(head, b"origin")
        origin = parse_origin(text)
        if origin is None:
            return None
        is_own = origin == self._url or origin == origin_of_host(_only(head, b"host"), origin.scheme)
        return text if is_own else None

    def page_origin(self, head: RequestHead) -> str:
        """Return the origin that a browser sees this site at, as far as can be known; "" where it cannot."""
        told = self.own_origin(head)
        if told is not None:
            return told
        if self._url is not None:
            return self._url.text
        guessed = origin_of_host(_only(head, b"host"), "http")
        return "" if guessed is None else guessed.text


def has_header(head: RequestHead) -> bool:
    """Return whether a request has the header that no page of another site can set."""
    return head.headers.get(b"x-stackit-csrf") == (b"1",)


def is_form(head: RequestHead) -> bool:
    """Return whether the body of a request is a form."""
    return _only(head, b"content-type").partition(";")[0].strip().lower().encode("latin-1") == _FORM


def _only(head: RequestHead, name: bytes) -> str:
    """Return the value of a header that came once, else ""."""
    values = head.headers.get(name, ())
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""


def _name(host: str) -> str | None:
    """Return the name or address in a ``Host`` header, without port and brackets; None where it is malformed."""
    match = _HOST.fullmatch(host)
    return (match["ipv6"] or match["name"]).lower() if match is not None else None
