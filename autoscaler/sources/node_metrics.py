"""The metrics source: reads the metrics page of every Ray node, all at once, each with its own deadline.

The dashboard names the pages (`/api/prometheus/sd`). A node that does not answer keeps its last page with the time it
was read, so that what it served counts as old, never as 0. What the pages mean is in `join`, how to read them in
`exposition`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from autoscaler.clients.addresses import TargetRules, as_address, is_subdomain
from autoscaler.clients.bodies import ACCEPT, pieces
from autoscaler.clients.http_answers import OneAnswerConnector
from autoscaler.clients.ray_dashboard import LARGE_BYTES, Answer, DashboardClient, connection_problem
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.clients.resolving import AddressRefused, CheckedResolver, Resolve, system_resolve
from autoscaler.common.errors import LeadtimeError, SourceError
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import Histogram
from autoscaler.sources.exposition import Memory, Sample, parse
from autoscaler.sources.join import NodePage
from autoscaler.sources.names import NAMES
from autoscaler.sources.page_reading import Budget, WantedLines, Weight
from autoscaler.sources.ray_dashboard import check_status
from autoscaler.sources.readings import NodePages

TARGETS_PATH = "/api/prometheus/sd"
_ROUND_TIMEOUTS = 2.5
"""All pages together may take so many times as long as one of them may."""
_MANY_LINES = 500
"""More are parsed in a thread."""


_STILL_S = 30.0
"""Ray writes what a process counts every ten seconds or so."""


@dataclass(slots=True)
class _Node:
    """What is kept of one target between reads."""

    memory: Memory = field(default_factory=Memory)
    page: NodePage | None = None
    weight: Weight = field(default_factory=Weight)
    why: str = ""
    """Why the last read failed; empty when it worked."""
    moved_at_s: float = 0.0
    """When something on its page was another value than before."""

    def take(self, samples: tuple[Sample, ...], now_s: float) -> None:
        if self.page is None or samples != self.page.samples:
            self.moved_at_s = now_s
        self.page, self.why = NodePage(now_s, samples, first=self.page is None), ""

    def stands_still(self, now_s: float) -> bool:
        """Engines that serve count tokens: where nothing moves beside them the page is an old one, shown again."""
        page = self.page
        if page is None or now_s - self.moved_at_s <= _STILL_S:
            return False
        running = (
            value for series, value in page.samples if series.role is not None and series.role.field == "running"
        )
        return any(not isinstance(value, Histogram) and value > 0.0 for value in running)

    def age(self) -> None:
        """The page is as old as its last change."""
        assert self.page is not None
        self.page = replace(self.page, as_of_s=self.moved_at_s)
        self.why = f"nothing on it moves since {_STILL_S:g} s, though engines on it serve"


class NodeMetricsSource(Source):
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
        self._budget = Budget(client.limits)
        self._lane = asyncio.Lock()
        """One piece at a time: between two of them whoever else is ready gets on."""

    async def read(self, now_s: float) -> Reading:
        try:
            targets = await self._targets()
        except LeadtimeError as error:
            if not self._nodes:
                return Reading(self.name, up=False, as_of_s=None, why=str(error))
            targets = tuple(self._nodes)  # the nodes themselves may well answer while the dashboard is away
        before, self._nodes = self._nodes, {target: self._nodes.get(target) or _Node() for target in targets}
        for target, node in before.items():
            if target not in self._nodes:
                self._budget.drop(node.weight)
        self._budget.begin()
        await self._scrape_all(now_s)
        return self._reading(now_s)

    @property
    def series(self) -> int:
        """Lines of known metrics that are kept."""
        return self._budget.held.lines

    def forget(self) -> None:
        """Nothing of any page is kept."""
        self._nodes, self._budget = {}, Budget(self._client.limits)

    async def close(self) -> None:
        await self._client.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _targets(self) -> tuple[str, ...]:
        """Errors: LeadtimeError."""
        client = self._client
        answer = await client.get(TARGETS_PATH)
        check_status(answer, client)
        if len(answer.body) > LARGE_BYTES:
            return await asyncio.to_thread(_listed, answer, client)
        return _listed(answer, client)

    async def _scrape_all(self, now_s: float) -> None:
        """All pages, as far as they come in the time of one round."""
        within_s = _ROUND_TIMEOUTS * self._timeout_s
        tasks = [asyncio.create_task(self._scrape(target, node, now_s)) for target, node in self._nodes.items()]
        try:
            await asyncio.wait(tasks, timeout=within_s)
        finally:
            for task in tasks:
                task.cancel()
        for node, task in zip(self._nodes.values(), tasks, strict=True):
            (failure,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(failure, asyncio.CancelledError):
                node.why = f"its turn did not come within {within_s:g} s"
            elif failure is not None:
                node.why = f"bug: {failure!r}"

    async def _scrape(self, target: str, node: _Node, now_s: float) -> None:
        wanted = WantedLines(NAMES, self._budget, node.weight)
        try:
            self._check(target)
            async with self._slots, asyncio.timeout(self._timeout_s):
                self._budget.spend(0)
                await self._fetch(target, wanted)
            page, node.weight = wanted.end(), wanted.weight
            if len(wanted.lines) > _MANY_LINES:
                samples = await asyncio.to_thread(parse, page, NAMES, node.memory)
            else:
                samples = parse(page, NAMES, node.memory)
        except TimeoutError:
            node.why = f"no answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            node.why = connection_problem(error)
        except LeadtimeError as error:
            node.why = str(error)
        else:
            if not samples and node.page is not None and node.page.samples:
                node.why = "holds nothing of what it had: is it another exporter's page?"
            else:
                node.take(tuple(samples), now_s)
        finally:
            wanted.undo()

    def _check(self, target: str) -> None:
        """Errors: AddressRefused. A name is checked again when its addresses are known."""
        host = _host(target)
        if (why := self._rules.refusal(host, as_address(host))) is not None:
            raise AddressRefused(f"not read, it {why}")

    async def _fetch(self, target: str, wanted: WantedLines) -> None:
        """The wanted lines of the node's page; it needs no token and is never sent one."""
        if self._session is None:
            checked = CheckedResolver(lambda host, _, address: self._rules.refusal(host, address), self._resolve)
            connector = OneAnswerConnector(limit=0, resolver=checked)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=ACCEPT)
        async with self._session.get(f"http://{target}/metrics", allow_redirects=False) as answer:
            if answer.status != 200:
                raise SourceError(f"answered {answer.status}")
            async for piece in pieces(answer, self._budget.limits.round_bytes):
                async with self._lane:
                    wanted.feed(piece)
                    await asyncio.sleep(0)  # pieces that are here already would keep everybody waiting

    def _reading(self, now_s: float) -> Reading:
        read = [node for node in self._nodes.values() if node.page is not None and node.page.as_of_s == now_s]
        still = [node for node in read if node.stands_still(now_s)]
        for node in still if len(still) < len(read) else ():
            node.age()
        failed = {target: node.why for target, node in self._nodes.items() if node.why}
        pages = {target: node.page for target, node in self._nodes.items() if node.page is not None}
        up = any(page.as_of_s == now_s for page in pages.values())
        data = NodePages(self.namespace, self.service, pages)
        return Reading(self.name, up, now_s if up else None, data if up else None, _silent(failed, len(self._nodes)))


def _listed(answer: Answer, client: DashboardClient) -> tuple[str, ...]:
    """Errors: SourceError."""
    try:
        document = answer.json()
    except ValueError:
        raise SourceError(f"{client.shown}: the list of metric targets is not JSON") from None
    return parse_targets(document, client.shown, client.limits.targets)


def parse_targets(answer: object, shown: str, most: int = ReadingLimits().targets) -> tuple[str, ...]:
    """`HOST:PORT` of every page to read, without doubles. Errors: SourceError when it is not Prometheus' HTTP SD."""
    try:
        if not isinstance(answer, list):
            raise TypeError
        found = [target for group in answer for target in group["targets"]]
        if len(found) > most:
            raise SourceError(f"{shown}: lists more than {most} metric pages (reading.targets)")
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
