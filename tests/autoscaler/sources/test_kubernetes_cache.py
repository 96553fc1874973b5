"""The kept view of objects on virtual time: it lists once, resumes, backs off, and never shrinks by a failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from autoscaler.common.errors import Forbidden, NotFound, Unavailable
from autoscaler.kubernetes.resources import CONFIG_MAPS, Expired, Object, ObjectList, Throttled, WatchEvent
from autoscaler.sources.kubernetes.cache import ObjectCache, WatchTimes
from tests.kube.virtual_time import run_virtual


def obj(name: str, version: int, value: str = "") -> Object:
    return {"metadata": {"name": name, "namespace": "llm", "resourceVersion": str(version)}, "value": value}


def event(kind: Any, name: str, version: int, value: str = "") -> WatchEvent:
    return WatchEvent(kind, obj(name, version, value))


class Steady(random.Random):
    """Jitter without chance: factors of 1."""

    def random(self) -> float:
        return 0.5


class Scripted:
    """A ClusterApi that plays what it is given, one entry a call: pages, batches, a pause in seconds, an error."""

    def __init__(self, lists: Sequence[Any], watches: Sequence[Sequence[Any]]) -> None:
        self.lists, self.watches = list(lists), [list(w) for w in watches]
        self.calls: list[tuple[float, str]] = []

    def _log(self, call: str) -> None:
        self.calls.append((asyncio.get_running_loop().time() - 1000.0, call))

    async def pages(self, resource: Any, namespace: Any, **_: Any) -> AsyncIterator[ObjectList]:
        self._log("list")
        answer = self.lists.pop(0) if self.lists else []
        if isinstance(answer, Exception):
            raise answer
        yield ObjectList(tuple(answer), "10")

    async def watch(
        self, resource: Any, namespace: Any, version: str, **_: Any
    ) -> AsyncIterator[tuple[WatchEvent, ...]]:
        self._log(f"watch {version}")
        script = self.watches.pop(0) if self.watches else [1e9]
        for step in script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                yield step


def follow(
    lists: Sequence[Any], watches: Sequence[Sequence[Any]], lasts_s: float = 100.0
) -> tuple[ObjectCache[str], Scripted, float]:
    """Run a cache for a while; and when it ended."""

    async def main() -> tuple[ObjectCache[str], Scripted, float]:
        api, loop = Scripted(lists, watches), asyncio.get_running_loop()
        cache = ObjectCache(
            api,  # type: ignore[arg-type]
            CONFIG_MAPS,
            "llm",
            parse,
            now_s=loop.time,
            times=WatchTimes(),
            jitter=Steady(),
        )
        task = asyncio.ensure_future(cache.run())
        await asyncio.sleep(lasts_s)
        now_s = loop.time()
        cache.as_of = cache.as_of_s()  # type: ignore[attr-defined]
        task.cancel()
        return cache, api, now_s

    return run_virtual(main())


def parse(found: Object) -> str | None:
    if found["value"] == "odd":
        raise ValueError
    return None if found["value"] == "unwanted" else f"{found['metadata']['name']}={found['value']}"


def shown(cache: ObjectCache[str]) -> list[str]:
    return sorted(cache.items.values())


def test_a_list_and_then_a_watch_from_its_version() -> None:
    watch = [(), (event("ADDED", "b", 11), event("MODIFIED", "a", 12, "2")), (event("DELETED", "c", 13),), 1e9]
    cache, api, now_s = follow([[obj("a", 1), obj("c", 2)]], [watch])

    assert shown(cache) == ["a=2", "b="]
    assert [call for _, call in api.calls] == ["list", "watch 10"]
    assert (cache.synced, cache.why, cache.as_of) == (True, "", now_s)  # type: ignore[attr-defined]


def test_a_watch_that_ended_in_order_goes_on_from_where_it_was() -> None:
    cache, api, _ = follow([[]], [[(), (event("ADDED", "a", 17),), 50], [(), (event("ADDED", "b", 19),), 1e9]])

    assert api.calls == [(0, "list"), (0, "watch 10"), (50, "watch 17")]
    assert shown(cache) == ["a=", "b="]


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    cache, api, _ = follow([[obj("a", 1)]], [[(), (event("BOOKMARK", "", 40),), 50]])

    assert api.calls[-1] == (50, "watch 40")
    assert shown(cache) == ["a="]


def test_a_cut_watch_is_resumed_with_back_off_and_without_a_new_list() -> None:
    cut = Unavailable("cut")
    _, api, _ = follow(
        [[]], [[cut], [cut], [cut], [cut], [cut], [cut], [cut], [(), (event("ADDED", "a", 11),), cut]], 200
    )

    assert [at for at, _ in api.calls[1:]] == [0, 1, 3, 7, 15, 31, 61, 91, 92]
    assert {call for _, call in api.calls[1:-1]} == {"watch 10"}
    assert api.calls[-1][1] == "watch 11"


def test_a_forgotten_version_is_listed_anew_and_what_went_meanwhile_is_gone() -> None:
    lists = [[obj("a", 1), obj("b", 2)], [obj("b", 2, "new")]]
    cache, api, _ = follow(lists, [[(), Expired("too old")]])

    assert [call for _, call in api.calls] == ["list", "watch 10", "list", "watch 10"]
    assert shown(cache) == ["b=new"]


def test_a_watch_that_stood_and_said_nothing_at_all_is_listed_anew() -> None:
    """After a restore of etcd from a backup versions go back; a watch from a later one stands, and tells nothing."""
    silent = [(), 90.0, Unavailable("silence")]
    cache, api, _ = follow([[obj("a", 500), obj("lost", 501)], [obj("a", 3, "new")]], [silent])

    assert [call for _, call in api.calls] == ["list", "watch 10", "list", "watch 10"]
    assert shown(cache) == ["a=new"]


def test_a_watch_that_fell_silent_after_a_bookmark_goes_on_from_it() -> None:
    said_something = [(), 60.0, (event("BOOKMARK", "", 40),), 90.0, Unavailable("silence")]
    _, api, _ = follow([[]], [said_something], lasts_s=200.0)

    assert [call for _, call in api.calls] == ["list", "watch 10", "watch 40"]


def test_a_server_that_calls_every_version_too_old_is_not_asked_without_end() -> None:
    _, api, _ = follow([], [[(), Expired("too old")]] * 50, lasts_s=600)

    assert len([call for _, call in api.calls if call == "list"]) < 30


def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_end() -> None:
    _, api, _ = follow([[]], [[()]] * 1000, lasts_s=100)

    assert len(api.calls) <= 102


def test_while_the_server_is_away_the_view_stays_and_ages() -> None:
    cache, _, now_s = follow([[obj("a", 1)]], [[(), 20, Unavailable("away")], *[[Unavailable("away")]] * 50])

    assert shown(cache) == ["a="]
    assert cache.why == "away"
    assert cache.as_of == now_s - 100  # type: ignore[attr-defined]


def test_before_the_first_list_nothing_is_known() -> None:
    cache, _, _ = follow([Unavailable("away")] * 50, [])

    assert (cache.synced, cache.as_of, cache.why) == (False, None, "away")  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [Forbidden("no right"), NotFound("no such kind")])
def test_a_missing_right_or_kind_is_asked_for_once_a_minute(error: Exception) -> None:
    cache, api, _ = follow([error] * 50, [], lasts_s=600)

    assert [at for at, _ in api.calls] == [60.0 * i for i in range(10)]
    assert cache.why == str(error)


def test_the_servers_own_wish_to_be_left_alone_is_respected() -> None:
    _, api, _ = follow([Throttled("busy", 25.0), []], [])

    assert [at for at, call in api.calls if call == "list"] == [0, 25]


def test_objects_that_are_unwanted_or_odd_are_left_out() -> None:
    watch = [(), (event("MODIFIED", "a", 11, "unwanted"), event("MODIFIED", "b", 12, "odd")), 1e9]
    cache, _, _ = follow([[obj("a", 1), obj("b", 2), obj("c", 3), obj("d", 4, "odd")]], [watch])

    assert shown(cache) == ["c="]
    assert cache.unreadable == 2


def test_a_bug_does_not_end_the_view() -> None:
    cache, api, _ = follow([[]], [[ZeroDivisionError()], [(), (event("ADDED", "a", 11),), 1e9]])

    assert shown(cache) == ["a="]
    assert len(api.calls) == 3
