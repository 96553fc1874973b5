"""Watches of the fake API server: what the store's log says of the objects that a request's selectors match."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.kubernetes.handlers import Target
from tests.fakes.kubernetes.selectors import field_selector, label_selector
from tests.fakes.kubernetes.status import ApiError, expired
from tests.fakes.kubernetes.store import Store


class Watch:
    """One watch: from a version on, what the log says of the objects that the selectors match."""

    def __init__(self, store: Store, target: Target, query: Mapping[str, str]) -> None:
        labels = label_selector(query.get("labelSelector", ""))
        fields = field_selector(query.get("fieldSelector", ""), target.kind.selectable)
        self._store, self._target = store, target
        self._matches = lambda o: (
            target.namespace in ("", o["metadata"].get("namespace", "")) and labels(o) and fields(o)
        )
        self._bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        given = query.get("resourceVersion", "")
        self._from_start = given in ("", "0")
        self.version = 0 if self._from_start else _version(given)

    def refuse_if_expired(self) -> None:
        """Errors: ApiError 410."""
        if not self._from_start and self.version < self._store.oldest:
            raise expired(self.version, self._store.oldest)

    def first(self) -> list[dict[str, Any]]:
        """What a watch without a version starts with: every object that is there, as ADDED, and a bookmark."""
        if not self._from_start:
            return []
        found, self.version = self._store.find(self._target.kind, self._target.namespace, self._matches)
        return [*({"type": "ADDED", "object": o} for o in found), *self.bookmark()]

    def more(self) -> list[dict[str, Any]]:
        """What happened since. Errors: ApiError 410."""
        changes, self.version = self._store.changes_after(self._target.kind, self.version)
        events = []
        for change in changes:
            was = change.before is not None and self._matches(change.before)
            now = change.type != "DELETED" and self._matches(change.after)
            if was and now:
                events.append({"type": "MODIFIED", "object": change.after})
            elif now:
                events.append({"type": "ADDED", "object": change.after})
            elif was:
                events.append({"type": "DELETED", "object": change.after})
        return events

    def bookmark(self) -> list[dict[str, Any]]:
        if not self._bookmarks:
            return []
        kind = self._target.kind
        meta = {"resourceVersion": str(self.version), "creationTimestamp": None}
        return [{"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}}]


def _version(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ApiError(
            500, f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax', None
        ) from None


async def stream(
    web_request: web.Request,
    watch: Watch,
    changed: asyncio.Event,
    *,
    timeout_s: float,
    bookmark_s: float,
    cut_after: int | None,
) -> web.StreamResponse:
    """Write events as they come until the time is over, the log was compacted, or the fault cuts it."""
    loop = asyncio.get_running_loop()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(web_request)
    ends_at, next_bookmark_at = loop.time() + timeout_s, loop.time() + bookmark_s
    events, sent = watch.first(), 0
    while True:
        changed.clear()
        try:
            events += watch.more()
        except ApiError as error:
            await response.write(msgspec.json.encode({"type": "ERROR", "object": error.body()}) + b"\n")
            return response
        now = loop.time()
        if now >= next_bookmark_at:
            events += watch.bookmark()
            next_bookmark_at = now + bookmark_s
        for event in events:
            if cut_after is not None and sent >= cut_after:
                if web_request.transport is not None:
                    web_request.transport.abort()
                return response
            await response.write(msgspec.json.encode(event) + b"\n")
            sent += 1
        events = []
        if now >= ends_at:
            return response
        try:
            await asyncio.wait_for(changed.wait(), max(0.0, min(ends_at, next_bookmark_at) - now))
        except TimeoutError:
            continue
