"""The real stackit, started as ``twistd -n stackit`` with a state directory and ports of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from stackit.testing.deliveries import SignedDelivery, delivery
from stackit.testing.http_client import Answer
from stackit.testing.process import PATIENCE, SECRET, StackitFailed, StackitProcess, WaitedInVain


class RunningStackit(StackitProcess):
    """A stackit that is sent deliveries, and asked about them. The arguments are those of ``StackitProcess``."""

    async def deliver(
        self,
        event: str,
        payload: Mapping[str, Any] | bytes | None = None,
        *,
        action: str | None = None,
        guid: str | None = None,
        form: bool = False,
        secret: str | None = None,
    ) -> Answer:
        """Send a delivery signed with this server's secret, or another; without ``payload``, one is made up."""
        signing = secret or self.secret or SECRET
        return await self.post(delivery(event, payload, secret=signing, action=action, guid=guid, form=form))

    async def post(self, signed: SignedDelivery) -> Answer:
        """Send a delivery as it is."""
        return await self.ask("POST", self.webhook_url, body=signed.body, headers=signed.headers)

    async def admin(self, method: str, path: str, body: bytes | None = None, **query: str) -> Answer:
        """Ask the admin side; ``{prefix}`` in the path is the API prefix."""
        asked = f"{self.admin_url}{path.replace('{prefix}', self.prefix)}"
        headers = {"X-Stackit-CSRF": "1", "X-Stackit-No-Redirect": "1"}
        if "STACKIT_API_TOKEN" in self._environment:
            headers["Authorization"] = f"Bearer {self._environment['STACKIT_API_TOKEN']}"
        return await self.ask(method, f"{asked}?{urlencode(query)}" if query else asked, body=body, headers=headers)

    async def sync(self, repo: str) -> Answer:
        """Sync a repository by hand, and return the changes."""
        return await self.admin("POST", f"{{prefix}}/repos/{repo}/sync")

    async def receipt(self, guid: str) -> dict[str, Any] | None:
        """Return the receipt of the delivery with GitHub's id ``guid``; None while stackit does not know it."""
        found = (await self.admin("GET", "{prefix}/deliveries", delivery=guid)).json()["deliveries"]
        return found[0] if found else None

    async def wait_for(
        self, guid: str, state: str = "done", *, visible: bool = False, within: float | str = PATIENCE
    ) -> dict[str, Any]:
        """Wait until a delivery is ``pending``, ``done`` or ``dead``, and if asked ``visible``. Return its receipt.

        Raises StackitFailed with the errors and tracebacks of its handlers: at once where a handler has given up and
        ``done`` cannot be reached any more, or all are done and ``dead`` cannot; else after ``within``.
        """
        receipt: dict[str, Any] | None = None

        async def reached() -> bool:
            nonlocal receipt
            receipt = await self.receipt(guid)
            if receipt is None:
                return False
            if receipt["state"] == state and not (visible and receipt["visible_at"] is None):
                return True
            states = {each["state"] for each in receipt["handlings"]}
            if (state == "done" and "dead" in states) or (state == "dead" and receipt["state"] == "done"):
                raise StackitFailed(await self._report(receipt, f"delivery {guid} will never be {state}"))
            return False

        try:
            await self.until(reached, f"delivery {guid} to be {state}{' and visible' if visible else ''}", within)
        except WaitedInVain as problem:
            if receipt is not None:
                raise StackitFailed(await self._report(receipt, str(problem).partition("\n")[0])) from None
            raise
        assert receipt is not None  # noqa: S101 - for the type checker
        return receipt

    async def _report(self, receipt: Mapping[str, Any], what: str) -> str:
        """Return what happened to a delivery at each handler, with tracebacks, and the end of the log."""
        whole = (await self.admin("GET", f"{{prefix}}/deliveries/{receipt['id']}", traceback="1")).json()
        lines = [what]
        for each in whole["handlings"]:
            error = f": {each['error']}" if each["error"] else ""
            lines.append(f"{each['subscriber']} is {each['state']} (attempts: {each['attempts']}){error}")
            lines += [each["traceback"].rstrip()] if each["traceback"] else []
        return "\n".join([*lines, "", self.log[-4000:]])

    async def metrics(self) -> dict[str, float]:
        """Return every sample by its name and labels, as ``/metrics`` writes them: ``name{label="value"}``."""
        lines = (await self.admin("GET", "/metrics")).body.decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}
