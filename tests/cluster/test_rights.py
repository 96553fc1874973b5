"""Every right that the chart grants: enough, since nothing is refused, and needed, since without it something is.

One release with one pool of every way to pre-warm. First it does everything once, and the audit log of the real API
server tells what the account asked for. Then each right is taken away, all connections are broken (so that what is
watched is listed again), and the same is done again: the API must refuse a call that it let through before, and the
controller must say so in its log or status. The rows of the table in docs/rights.md are those of this run.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import Call, RealApi
from tests.cluster.release import SERVICES, Release, released, values
from tests.cluster.test_autoscalers import undefine
from tests.fakes.kubernetes import objects

pytestmark = pytest.mark.cluster
PAGE = Path(__file__).resolve().parents[2] / "docs" / "rights.md"
Right = tuple[str, str, str]
"""(where, resource, verb)."""
SELDOM = {(SERVICES, "events", "patch"), ("rights", "events", "patch"), ("rights", "events", "create")}
"""A lasting Event's count is written after five minutes only, and Events of the pod are for trouble of the whole."""
ROLES = ("Role", "ClusterRole")


def _reads_lease(resource: str, verb: str) -> bool:
    return (resource, verb) == ("leases", "get")


def _lists(resource: str, verb: str) -> bool:
    return verb == "list"


def _watches(resource: str, verb: str) -> bool:
    return verb == "watch"


BATCHES: tuple[Callable[[str, str], bool], ...] = (
    lambda resource, verb: verb == "get" and resource != "leases",
    lambda resource, verb: verb == "patch",
    lambda resource, verb: verb == "delete",
    lambda resource, verb: verb == "create",
    lambda resource, verb: (resource, verb) == ("leases", "update"),
    _reads_lease,
    _lists,
    _watches,
)
"""Rights that are taken away together: none of them keeps the controller from needing another one of its batch."""
ANEW = (_reads_lease, _lists, _watches)
"""Only a new process needs them: a leader renews without reading, a watch that was cut goes on from where it was."""


def rights(role: dict[str, Any]) -> set[Right]:
    place = role["metadata"].get("namespace", "cluster")
    return {
        (place, resource, verb)
        for rule in role.get("rules") or ()
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def roles(api: RealApi, namespace: str) -> list[dict[str, Any]]:
    """The release's Roles and its ClusterRole."""
    found = [role for kind in ROLES for role in api.all("rbac.authorization.k8s.io/v1", kind)]
    named = {(SERVICES, "demo-leadtime"), (namespace, "demo-leadtime-own"), ("", f"{namespace}-demo-leadtime-nodes")}
    return [role for role in found if (role["metadata"].get("namespace", ""), role["metadata"]["name"]) in named]


def right_of(call: Call) -> Right:
    return (call.namespace or "cluster", call.resource, call.verb)


def without(role: dict[str, Any], takes: Callable[[str, str], bool]) -> list[dict[str, Any]]:
    """Its rules less the rights that `takes` (resource, verb) names; each resource a rule of its own."""
    rules = []
    for rule in role["rules"]:
        for resource in rule["resources"]:
            verbs = [verb for verb in rule["verbs"] if not takes(resource, verb)]
            if verbs:
                rules.append({**rule, "resources": [resource], "verbs": verbs})
    return rules


@asynccontextmanager
async def taken_away(api: RealApi, namespace: str, takes: Callable[[str, str], bool]) -> AsyncIterator[set[Right]]:
    before = [copy.deepcopy(role) for role in roles(api, namespace)]
    gone: set[Right] = set()
    try:
        for role in before:
            api.change(role, {"rules": without(role, takes)})
            gone |= {right for right in rights(role) if takes(*right[1:])}
        yield gone
    finally:
        for role in before:
            api.change(role, {"rules": role["rules"]})


_PLACES = {SERVICES: "watched", "rights": "own", "cluster": "cluster"}


def page_rows() -> set[Right]:
    """The table of the page."""
    text = PAGE.read_text().partition("<!-- rights:")[2].partition("What a missing right")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {(place, resource, verb) for place, resource, verbs in rows[2:] for verb in verbs.split(", ")}


def chosen(wants: Path) -> dict[str, Any]:
    """The values of the other tests, and Autoscaler objects count."""
    made = values(wants)
    made["config"]["kubernetes"] = {"nodes": True, "autoscalers": True}
    return made


async def everything_once(release: Release, round_: int) -> None:
    """What makes each call: lists and watches anew, levels up and down, a new object, an Event. Not waited for."""
    if round_ % 4 == 0:
        for pod in release.pods.running():
            pod.relay.break_connections()
    asked = objects.autoscaler(replicas={"max": 6})
    release.api.clear([SERVICES], (asked["apiVersion"], asked["kind"]))
    release.api.add(asked)
    release.wants(2 + round_ % 4, round_ % 3)
    await asyncio.sleep(1.5)


def says(release: Release, right: Right) -> bool:
    """Whether the controller tells of the refusal, in its log or its journal."""
    _, resource, verb = right
    plain = resource.partition("/")[0]
    words = re.compile(rf"cannot {verb} resource \\*\"{resource}\\*\"|{verb} {plain}\b[^\n]*forbidden")
    pods = (*release.pods.running(), *release.pods.ended)
    return any(words.search(text) for pod in pods for text in (pod.log, pod.journal))


@asynccontextmanager
async def defined(cluster: RealApi) -> AsyncIterator[None]:
    """The definition of Autoscalers goes at the end: the chart leaves it where it is."""
    try:
        yield
    finally:
        undefine(cluster)


async def test_every_right_is_enough_and_none_is_too_many(cluster: RealApi, tmp_path: Path) -> None:
    async with released(cluster, tmp_path, "rights", chosen) as release, defined(cluster):
        await release.leading()
        granted = set().union(*(rights(role) for role in roles(cluster, "rights")))
        round_ = 0

        async def until(done: Any, what: str) -> None:
            nonlocal round_
            for _ in range(40):
                if done():
                    return
                round_ += 1
                await everything_once(release, round_)
            raise AssertionError(f"never seen: {what()}")

        # enough
        def used() -> set[Right]:
            return {right_of(call) for call in release.calls() if call.status < 300 or call.status in (404, 409, 422)}

        await until(lambda: granted - used() <= set(SELDOM), lambda: f"calls by {granted - used()}")
        assert [f"{c.verb} {c.resource} {c.name}" for c in release.calls() if c.status == 403] == []

        # none too many
        seen: set[Right] = set()
        for takes in BATCHES:
            async with taken_away(cluster, "rights", takes) as gone:
                cluster.traffic.mark()
                wanted = gone - set(SELDOM)
                if takes in ANEW:
                    release.replace_pods()

                def refused(wanted: set[Right] = wanted) -> set[Right]:
                    return wanted & {right_of(call) for call in release.calls() if call.status == 403}

                # what is wrong with the election is said at most so often, and this test breaks its connection often
                told = {right for right in wanted if right[1] != "leases"}

                def silent(told: set[Right] = told) -> set[Right]:
                    return {right for right in told if not says(release, right)}

                await until(lambda w=wanted, r=refused: r() == w, lambda w=wanted, r=refused: f"refusals of {w - r()}")
                # of several lists or watches that one source lacks it names one
                enough = max(0, len(told) - 1) if takes in ANEW else 0
                await until(lambda s=silent, n=enough: len(s()) <= n, lambda s=silent: f"words about {s()}")
                seen |= gone
            if takes in ANEW:  # what was refused is asked for again after a minute only
                release.replace_pods()
            await release.leading()
        assert seen == granted
        assert page_rows() == {(_PLACES[place], resource, verb) for place, resource, verb in granted}
