"""The token mix when requests become longer: as soon as chance does not explain it any more, and not before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec
import pytest

from autoscaler.core import demand
from autoscaler.core.state import DemandMemory
from autoscaler.core.types import DeploymentMetrics
from policies.base import ReplicaMetrics, Slo

PROMPT, OUTPUT = 1000.0, 3000.0
TOKENS_PER_S = 30.0
"""Of one request: it stays for 100 s on average."""
STEP_S = 15.0


def served(
    seconds: float, longer_from_s: float, factor: float, prompt_factor: float = 1.0, rps: float = 1.0
) -> Iterator[DeploymentMetrics]:
    """Pages of a fleet with room for all: from a moment on those who come have longer outputs or prompts."""
    dice = random.Random(1)
    there: list[list[float]] = []  # tokens that are still to come
    arrivals = prompt = output = finished = 0.0
    for k in range(round(seconds / STEP_S)):
        for _ in range(round(rps * STEP_S)):
            late = k * STEP_S >= longer_from_s
            there.append([dice.lognormvariate(-0.18, 0.6) * OUTPUT * (factor if late else 1.0)])
            prompt += PROMPT * (prompt_factor if late else 1.0)
            arrivals += 1.0
        for one in there:
            made = min(one[0], TOKENS_PER_S * STEP_S)
            one[0] -= made
            output += made
        finished += sum(1 for one in there if one[0] <= 0.0)
        there = [one for one in there if one[0] > 0.0]
        yield page((k + 1) * STEP_S, arrivals, prompt, output, finished, float(len(there)))


def page(
    at_s: float, arrivals: float, prompt: float, output: float, finished: float, ongoing: float, waiting: float = 0.0
) -> DeploymentMetrics:
    return DeploymentMetrics(
        at_s,
        arrivals_total={"a": arrivals},
        prompt_tokens_total={"r": prompt},
        output_tokens_total={"r": output},
        finished_total={"r": finished},
        ongoing=ongoing,
        replicas=(ReplicaMetrics("r", ongoing, ongoing - waiting, waiting, 0.5),),
    )


def take(memory: DemandMemory, metrics: DeploymentMetrics) -> None:
    demand.ingest(memory, metrics, Slo(), 30.0, 30.0)


def outputs(memory: DemandMemory) -> float:
    mix = demand.current_mix(memory)
    assert mix is not None
    return mix.output_tokens


def test_longer_outputs_are_known_before_half_of_a_long_memory_is_gone() -> None:
    memory = DemandMemory()
    for metrics in served(3600.0 + 330.0, 3600.0, 1.8):
        take(memory, metrics)
    assert outputs(memory) == pytest.approx(1.8 * OUTPUT, rel=0.15)


def test_outputs_that_stay_as_they_are_are_known_to_a_few_percent_whatever_chance_does() -> None:
    memory, found = DemandMemory(), []
    for metrics in served(4 * 3600.0, 1e9, 1.0):
        take(memory, metrics)
        if metrics.as_of_s > 1800.0:
            found.append(outputs(memory))
    assert min(found) > 0.9 * OUTPUT
    assert max(found) < 1.1 * OUTPUT


def test_longer_prompts_are_known_as_soon() -> None:
    memory = DemandMemory()
    for metrics in served(3600.0 + 240.0, 3600.0, 1.0, prompt_factor=2.0):
        take(memory, metrics)
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.prompt_tokens == pytest.approx(2.0 * PROMPT, rel=0.2)
    assert mix.output_tokens == pytest.approx(OUTPUT, rel=0.1)


def test_requests_that_wait_are_not_taken_for_half_done() -> None:
    """A queue of 200 grows while requests of 3000 tokens are served as before: nobody's output became shorter."""
    memory = DemandMemory()
    for k in range(120):
        waiting = 20.0 * max(0, k - 110)
        take(memory, page(15.0 * k, 15.0 * k + waiting, 15e3 * k, 45e3 * k, 15.0 * k, 100.0 + waiting, waiting))
    assert outputs(memory) == pytest.approx(OUTPUT, rel=0.01)


def test_nothing_is_concluded_from_a_queue() -> None:
    """The same change in front of a queue: gauges of who waits and who is served differ in time."""
    calm, queued = DemandMemory(), DemandMemory()
    for metrics in served(3600.0 + 300.0, 3600.0, 1.8):
        take(calm, metrics)
        wait = 60.0 if metrics.as_of_s > 3600.0 else 0.0
        there = metrics.ongoing or 0.0
        engine = ReplicaMetrics("r", there + wait, there, wait, 1.0)
        take(queued, replace(metrics, ongoing=there + wait, replicas=(engine,)))
    assert outputs(queued) < 1.4 * OUTPUT < outputs(calm)


def test_handles_that_a_page_lacks_take_nobody_along() -> None:
    """Of two nodes with a proxy and an engine each one tells nothing for a minute: no request became longer."""
    memory, found = DemandMemory(), []
    for metrics in served(2 * 3600.0, 1e9, 1.0):
        take(memory, _of_nodes(metrics, 1 if 3600.0 < metrics.as_of_s <= 3660.0 else 2))
        if metrics.as_of_s > 3600.0:
            found.append(outputs(memory))
    assert min(found) > 0.9 * OUTPUT
    assert max(found) < 1.1 * OUTPUT


def _of_nodes(whole: DeploymentMetrics, nodes: int) -> DeploymentMetrics:
    """What so many of two nodes tell, who share everything."""

    def parts(counts: Mapping[str, float]) -> dict[str, float]:
        return {f"node{i}": sum(counts.values()) / 2 for i in range(nodes)}

    each = (whole.ongoing or 0.0) / 2
    return replace(
        whole,
        arrivals_total=parts(whole.arrivals_total),
        prompt_tokens_total=parts(whole.prompt_tokens_total),
        output_tokens_total=parts(whole.output_tokens_total),
        finished_total=parts(whole.finished_total),
        ongoing=nodes * each,
        replicas=tuple(ReplicaMetrics(f"r{i}", each, each, 0.0, 0.5) for i in range(nodes)),
    )


def test_tokens_that_nobody_counts_any_more_fade_for_days_without_harm() -> None:
    """As of a model that generates no more: what is left of its outputs becomes smaller than any number."""
    memory = DemandMemory()
    for k in range(1600):
        take(memory, page(70.0 * k, 700.0 * k, 7e5 * k, 2e6 * min(k, 60), 700.0 * k, 20.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.prompt_tokens == pytest.approx(1000.0)
    assert mix.output_tokens == pytest.approx(0.0, abs=1e-6)


def test_a_saved_memory_notices_the_same() -> None:
    pages = list(served(3600.0 + 600.0, 3600.0, 1.8))
    memory = DemandMemory()
    for metrics in pages[:245]:
        take(memory, metrics)
    saved = msgspec.convert(msgspec.json.decode(msgspec.json.encode(memory)), DemandMemory)
    for metrics in pages[245:]:
        take(memory, metrics)
        take(saved, metrics)
    assert outputs(saved) == outputs(memory)
