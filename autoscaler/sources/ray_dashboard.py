"""The inventory source: what Ray Serve's dashboard says of applications, targets and replicas.

It reads and never writes. What the answer means is in `applications`; the HTTP is in `clients/ray_dashboard.py`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from autoscaler.clients.ray_dashboard import LARGE_BYTES, Answer, DashboardClient
from autoscaler.common.errors import LeadtimeError, SourceError
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import ActWay
from autoscaler.sources.applications import read_applications
from autoscaler.sources.readings import Inventories
from autoscaler.sources.sizes import check_sizes
from policies.base import DeploymentKey

PATH = "/api/serve/applications/"
_READER = ThreadPoolExecutor(1, "large-answers")
"""Of large answers one at a time is read: it takes many times its size in memory meanwhile."""


class _Turn:
    """A place among those who may hold a large answer, once it is taken."""

    def __init__(self, turns: asyncio.Semaphore | None) -> None:
        self._turns, self._taken = turns, False

    async def take(self) -> None:
        if self._turns is not None and not self._taken:
            await self._turns.acquire()
            self._taken = True

    def give_back(self) -> None:
        if self._turns is not None and self._taken:
            self._turns.release()


class RayDashboardSource(Source):
    """Reads one Ray cluster; `data` of its readings is `Inventories`."""

    def __init__(
        self,
        name: str,
        namespace: str,
        service: str,
        client: DashboardClient,
        act: ActWay = "external",
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        """`turns`: shared by those of whom only so many may hold a large answer at once."""
        self.name = name
        self._turns = turns
        self._act = act
        self.namespace = namespace
        self.service = service
        self._client = client
        self._known: frozenset[DeploymentKey] = frozenset()
        """Deployments of the last answer."""

    async def read(self, now_s: float) -> Reading:
        turn = _Turn(self._turns)
        try:
            answer = await self._client.get(PATH, turn.take)
            check_status(answer, self._client)
            if len(answer.body) > LARGE_BYTES:  # the event loop would stand still for too long
                data = await asyncio.get_running_loop().run_in_executor(_READER, self._read, answer, now_s)
            else:
                data = self._read(answer, now_s)
        except LeadtimeError as error:
            return Reading(self.name, up=False, as_of_s=None, why=_with_place(str(error), self._client))
        finally:
            turn.give_back()
        self._known = frozenset((*data.deployments, *data.unreadable))
        return Reading(self.name, up=True, as_of_s=now_s, data=data)

    def _read(self, answer: Answer, now_s: float) -> Inventories:
        """Errors: SourceError."""
        document = _document(answer, self._client)
        check_sizes(document, self._client.limits)
        return read_applications(document, self.namespace, self.service, now_s, self._act, self._known)

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
