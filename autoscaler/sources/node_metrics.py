"""The metrics source: reads the metrics page of every Ray node, all at once, each with its own deadline.

The dashboard names the pages (`/api/prometheus/sd`). A node that does not answer keeps its last page with the time it
was read, so that what it served counts as old, never as 0. What the pages mean is in `join`, how to read them in
`exposition`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from autoscaler.addresses import TargetRules, as_address, is_subdomain
from autoscaler.dashboard_client import Answer, DashboardClient, connection_problem, read_limited
from autoscaler.errors import LeadtimeError, SourceError
from autoscaler.ports import Reading
from autoscaler.resolving import AddressRefused, CheckedResolver, Resolve, system_resolve
from autoscaler.sources.exposition import Memory, parse
from autoscaler.sources.join import NodePage
from autoscaler.sources.names import NAMES
from autoscaler.sources.ray_dashboard import check_status
from autoscaler.sources.readings import NodePages

TARGETS_PATH = "/api/prometheus/sd"


@dataclass(slots=True)
class _Node:
    """What is kept of one target between reads."""

    memory: Memory = field(default_factory=Memory)
    page: NodePage | None = None
    why: str = ""
    """Why the last read failed; empty when it worked."""


class NodeMetricsSource:
    """Reads all nodes of one Ray cluster; `data` of its readings is `NodePages`.

    Up means that at least one page was read just now; `why` names the targets that did not answer in any case.
    """

    def __init__(
        self, name: str, namespace: str, service: str, client: DashboardClient,
        timeout_s: float = 4.0, concurrency: int = 32, rules: TargetRules | None = None,
        resolve: Resolve = system_resolve,
    ) -> None:  # fmt: skip
        """`rules`: where pages may be; None: anywhere in the network, on this machine only beside the dashboard."""
        self.name = name
        self.namespace = namespace
        self.service = service
        self._client = client
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(concurrency)
        self._rules = rules or TargetRules(loopback=client.loopback)
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        self._nodes: dict[str, _Node] = {}

    async def read(self, now_s: float) -> Reading:
        try:
            targets = parse_targets(await self._targets(), self._client.shown)
        except LeadtimeError as error:
            if not self._nodes:
                return Reading(self.name, up=False, as_of_s=None, why=str(error))
            targets = tuple(self._nodes)  # the nodes themselves may well answer while the dashboard is away
        self._nodes = {target: self._nodes.get(target) or _Node() for target in targets}
        await asyncio.gather(*(self._scrape(target, node, now_s) for target, node in self._nodes.items()))
        return self._reading(now_s)

    async def close(self) -> None:
        await self._client.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _targets(self) -> object:
        answer = await self._client.get(TARGETS_PATH)
        check_status(answer, self._client)
        try:
            return answer.json()
        except ValueError:
            raise SourceError(f"{self._client.shown}: the list of metric targets is not JSON") from None

    async def _scrape(self, target: str, node: _Node, now_s: float) -> None:
        try:
            self._check(target)
            async with self._slots, asyncio.timeout(self._timeout_s):
                answer = await self._fetch(target)
            if answer.status != 200:
                raise SourceError(f"answered {answer.status}")
            samples = await asyncio.to_thread(parse, answer.body, NAMES, node.memory)
        except TimeoutError:
            node.why = f"no answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            node.why = connection_problem(error)
        except LeadtimeError as error:
            node.why = str(error)
        else:
            node.page, node.why = NodePage(now_s, tuple(samples), first=node.page is None), ""

    def _check(self, target: str) -> None:
        """Errors: AddressRefused. A name is checked again when its addresses are known."""
        host = _host(target)
        if (why := self._rules.refusal(host, as_address(host))) is not None:
            raise AddressRefused(f"not read, it {why}")

    async def _fetch(self, target: str) -> Answer:
        """The node's page; it needs no token and is never sent one."""
        if self._session is None:
            checked = CheckedResolver(lambda host, _, address: self._rules.refusal(host, address), self._resolve)
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, resolver=checked))
        async with self._session.get(f"http://{target}/metrics", allow_redirects=False) as answer:
            return Answer(answer.status, await read_limited(answer, target))

    def _reading(self, now_s: float) -> Reading:
        failed = {target: node.why for target, node in self._nodes.items() if node.why}
        pages = {target: node.page for target, node in self._nodes.items() if node.page is not None}
        up = any(page.as_of_s == now_s for page in pages.values())
        data = NodePages(self.namespace, self.service, pages)
        return Reading(self.name, up, now_s if up else None, data if up else None, _silent(failed, len(self._nodes)))


def parse_targets(answer: object, shown: str) -> tuple[str, ...]:
    """`HOST:PORT` of every page to read, without doubles. Errors: SourceError when it is not Prometheus' HTTP SD."""
    try:
        if not isinstance(answer, list):
            raise TypeError
        found = [target for group in answer for target in group["targets"]]
        if not all(isinstance(target, str) and _looks_right(target) for target in found):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise SourceError(f"{shown}: the list of metric targets has another shape than expected") from None
    if not found:
        raise SourceError(f"{shown}: lists no metric pages (yet)")
    return tuple(dict.fromkeys(found))


def _looks_right(target: str) -> bool:
    """An address or a host name, and a port: built into a URL it can be nothing else."""
    host, colon, port = target.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        return False
    if host.startswith("["):
        return host.endswith("]") and "%" not in host and as_address(host[1:-1]) is not None
    return is_subdomain(host.lower())


def _host(target: str) -> str:
    return target.rpartition(":")[0].strip("[]").lower()


def _silent(failed: Mapping[str, str], total: int) -> str:
    if not failed:
        return ""
    shown = ", ".join(f"{target} ({why})" for target, why in list(failed.items())[:3])
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"{len(failed)} of {total} metric pages could not be read: {shown}{more}"
