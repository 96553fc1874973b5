"""The inventory source: what Ray Serve's dashboard says of applications, targets and replicas.

It reads and never writes. What the answer means is in `applications`; the HTTP is in `dashboard_client`.
"""

from __future__ import annotations

from autoscaler.dashboard_client import Answer, DashboardClient
from autoscaler.errors import LeadtimeError, SourceError
from autoscaler.model import ActWay
from autoscaler.ports import Reading
from autoscaler.sources.applications import read_applications
from policies.base import DeploymentKey

PATH = "/api/serve/applications/"


class RayDashboardSource:
    """Reads one Ray cluster; `data` of its readings is `Inventories`."""

    def __init__(
        self, name: str, namespace: str, service: str, client: DashboardClient, act: ActWay = "external"
    ) -> None:
        self.name = name
        self._act = act
        self.namespace = namespace
        self.service = service
        self._client = client
        self._known: frozenset[DeploymentKey] = frozenset()
        """Deployments of the last answer."""

    async def read(self, now_s: float) -> Reading:
        try:
            answer = await self._client.get(PATH)
            check_status(answer, self._client)
            document = _document(answer, self._client)
            data = read_applications(document, self.namespace, self.service, now_s, self._act, self._known)
        except LeadtimeError as error:
            return Reading(self.name, up=False, as_of_s=None, why=_with_place(str(error), self._client))
        self._known = frozenset((*data.deployments, *data.unreadable))
        return Reading(self.name, up=True, as_of_s=now_s, data=data)

    async def close(self) -> None:
        await self._client.close()


def check_status(answer: Answer, client: DashboardClient) -> None:
    """Errors: SourceError in one line that says what to do, for anything but 200."""
    status = answer.status
    if status == 200:
        return
    token = "the token in token_file was not accepted" if client.sends_token else "it wants a token: set token_file"
    hints = {
        401: token,
        403: token if client.sends_token else "access is forbidden",
        404: "no such page: is that the address of a Ray dashboard (Ray 2.60 or newer)?",
        503: "Ray Serve's controller does not answer",
    }
    if 300 <= status < 400:
        hint = "it redirects to somewhere else: give the dashboard's own address"
    else:
        hint = hints.get(status, "that is not usable")
    raise SourceError(f"{client.shown}: answered {status}: {hint}")


def _document(answer: Answer, client: DashboardClient) -> object:
    try:
        return answer.json()
    except ValueError:
        raise SourceError(f"{client.shown}: the answer is not JSON: is that a Ray dashboard?") from None


def _with_place(message: str, client: DashboardClient) -> str:
    return message if client.shown in message else f"{client.shown}: {message}"
