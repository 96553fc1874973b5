"""A view of all objects of one kind, kept current: a list once, then a watch that is resumed for as long as it can be.

What is kept of an object is what `parse` makes of it, so memory grows with what is needed, not with what is out there.
Failures make the view older, never smaller: what was seen last stays until the server says otherwise. Not for writing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from autoscaler.common.errors import Forbidden, LeadtimeError, NotFound, Unavailable
from autoscaler.common.fields import mapping, text
from autoscaler.kubernetes.resources import ClusterApi, Expired, Object, Resource, Throttled, WatchEvent

V = TypeVar("V")
Key = tuple[str, str]
"""(namespace, name)."""
NOT_READ = "not read yet"


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """Seconds; the defaults suit a real API server, tests make them short."""

    lasts_s: float = 270.0
    """A watch is ended and resumed after about this long."""
    silence_s: float = 90.0
    """Servers send a bookmark every minute or so: after this long without a word the watch is dead."""
    backoff_s: float = 1.0
    longest_backoff_s: float = 30.0
    denied_backoff_s: float = 60.0
    """Between attempts while the right or the kind is missing: somebody has to do something first."""
    page_size: int = 100


class ObjectCache(Generic[V]):
    """Run `run()` as a task; read `items` at any time, from the same loop."""

    def __init__(
        self,
        api: ClusterApi,
        resource: Resource,
        namespace: str | None,
        parse: Callable[[Object], V | None],
        *,
        now_s: Callable[[], float],
        labels: str = "",
        fields: str = "",
        times: WatchTimes | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: random.Random | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`namespace` None: all of them. `parse` gives None for objects that are not wanted."""
        self.resource, self.namespace = resource, namespace
        self.why = NOT_READ
        """Why the view does not follow the cluster now; empty when it does."""
        self.absent = False
        """The server does not know the kind, as of the last answer: there are no such objects."""
        self.lists = 0
        self.unreadable = 0
        """Objects that `parse` could not make sense of."""
        self._api, self._parse, self._labels, self._fields = api, parse, labels, fields
        self._now_s, self._sleep, self._changed = now_s, sleep, changed
        self._times = times or WatchTimes()
        self._jitter = jitter or random.Random()
        self._items: dict[Key, V] = {}
        self._version = ""
        self._heard_at_s: float | None = None
        self._failures = 0

    @property
    def items(self) -> Mapping[Key, V]:
        return MappingProxyType(self._items)

    @property
    def synced(self) -> bool:
        """It was complete once."""
        return self._heard_at_s is not None

    def as_of_s(self) -> float | None:
        """Of what moment the view is true: now while a watch stands, else when the server was last heard.

        A watch whose connection died without a sign still stands, until `silence_s` of silence.
        """
        return self._now_s() if self.synced and not self.why else self._heard_at_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except Expired as error:
                self._version = ""
                await self._rest(error)
            except LeadtimeError as error:
                await self._rest(error)
            except Exception as error:  # a bug must not end the view for good
                await self._rest(LeadtimeError(f"bug in the watch of {self.resource.plural}: {error!r}"))

    # ------------------------------------------------------------ list

    async def _list(self) -> None:
        items: dict[Key, V] = {}
        version = ""
        pages = self._api.pages(
            self.resource, self.namespace, labels=self._labels, fields=self._fields, page_size=self._times.page_size
        )
        async for page in pages:
            for obj in page.items:
                self._take(items, obj)
            version = page.resource_version
        self.lists += 1
        self.absent = False
        self._items, self._version = items, version
        self._heard_at_s = self._now_s()
        self._changed()

    def _take(self, items: dict[Key, V], obj: Object) -> None:
        key = _key(obj)
        try:
            view = self._parse(obj)
        except Exception:
            self.unreadable += 1
            view = None
        if view is None:
            items.pop(key, None)
        else:
            items[key] = view

    # ------------------------------------------------------------ watch

    async def _follow(self) -> None:
        """One watch, from the version reached so far to its end."""
        began_at_s = self._now_s()
        lasts_s = self._times.lasts_s * (0.9 + 0.2 * self._jitter.random())
        watch = self._api.watch(
            self.resource, self.namespace, self._version, labels=self._labels, fields=self._fields,
            lasts_s=lasts_s, silence_s=self._times.silence_s,
        )  # fmt: skip
        said = False
        try:
            async for batch in watch:
                said = said or bool(batch)
                self._apply(batch)
        except Unavailable:
            if not said and self._now_s() - began_at_s >= self._times.silence_s:
                # Not even a bookmark: a dead connection, or an etcd that was restored from a backup. There versions
                # went back, and a watch from one that is not there yet stands and tells nothing until it is.
                self._version = ""
            raise
        self._failures = 0
        if self._now_s() - began_at_s < self._times.backoff_s:
            await self._pause(self._times.backoff_s)  # a server that ends every watch at once is not asked without end

    def _apply(self, batch: tuple[WatchEvent, ...]) -> None:
        touched = False
        for event in batch:
            if event.type == "DELETED":
                touched |= self._items.pop(_key(event.object), None) is not None
            elif event.type != "BOOKMARK":
                self._take(self._items, event.object)
                touched = True
            self._version = event.resource_version
        self.why, self._heard_at_s = "", self._now_s()
        if batch:  # a watch that stands and then says nothing but "too old" is a failure each time
            self._failures = 0
        if touched:
            self._changed()

    # ------------------------------------------------------------ failures

    async def _rest(self, error: LeadtimeError) -> None:
        self.why = str(error)
        self.absent = isinstance(error, NotFound)
        self._failures += 1
        times = self._times
        wait_s = min(times.longest_backoff_s, times.backoff_s * 2.0 ** min(self._failures - 1, 10))
        if isinstance(error, Forbidden | NotFound):
            wait_s = times.denied_backoff_s
        elif isinstance(error, Throttled) and error.retry_after_s is not None:
            wait_s = max(wait_s, min(error.retry_after_s, 300.0))
        await self._pause(wait_s)

    async def _pause(self, wait_s: float) -> None:
        await self._sleep(wait_s * (0.5 + self._jitter.random()))


def _key(obj: Object) -> Key:
    meta = mapping(obj, "metadata")
    return (text(meta, "namespace"), text(meta, "name"))
