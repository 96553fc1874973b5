"""The token mix while clients leave before their answer is whole: they are requests too, no heavier and no lighter."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from autoscaler.core import demand
from autoscaler.core.demand.aborts import abort_weight
from autoscaler.core.state import DemandMemory
from autoscaler.core.types import DeploymentMetrics, Histogram
from policies.base import ReplicaMetrics, Slo, TokenMix

PROMPT, OUTPUT = 1000.0, 3000.0
STEP_S = 15.0
HOUR_S = 3600.0


@dataclass
class Fleet:
    """A fleet with room for all, of which pages are read; what it does is changed between two calls of `pages`."""

    rps: float = 1.0
    tokens_per_s: float = 30.0
    longer: float = 1.0
    prompt: float = PROMPT
    patience_s: float = math.inf
    leaving: float = 1.0
    """Share of those who come who have no more than this patience."""
    now_s: float = 0.0
    there: list[list[float]] = field(default_factory=list)
    """Tokens that are still to come, and seconds until the client leaves."""
    arrivals: float = 0.0
    finished: float = 0.0
    left: float = 0.0
    prompts: float = 0.0
    outputs: float = 0.0
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def pages(self, seconds: float) -> Iterator[DeploymentMetrics]:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            for _ in range(round(self.rps * STEP_S)):
                patience_s = self.patience_s if self.dice.random() < self.leaving else math.inf
                self.there.append([self.dice.lognormvariate(-0.18, 0.6) * OUTPUT * self.longer, patience_s])
                self.prompts += self.prompt
                self.arrivals += 1.0
            for one in self.there:
                seconds_here = min(STEP_S, one[1], one[0] / self.tokens_per_s)
                one[0] -= seconds_here * self.tokens_per_s
                one[1] -= seconds_here
                self.outputs += seconds_here * self.tokens_per_s
            self.finished += sum(1 for one in self.there if one[0] <= 1e-6)
            self.left += sum(1 for one in self.there if one[0] > 1e-6 and one[1] <= 1e-6)
            self.there = [one for one in self.there if one[0] > 1e-6 and one[1] > 1e-6]
            yield self._page()

    def _page(self) -> DeploymentMetrics:
        ongoing = float(len(self.there))
        return DeploymentMetrics(
            self.now_s,
            arrivals_total={"a": self.arrivals},
            prompt_tokens_total={"r": self.prompts},
            output_tokens_total={"r": self.outputs},
            finished_total={"r": self.finished},
            ttft={"r": Histogram((1.0, math.inf), (self.arrivals, self.arrivals))},
            ongoing=ongoing,
            replicas=(ReplicaMetrics("r", ongoing, ongoing, 0.0, 0.5),),
        )


def take(memory: DemandMemory, metrics: DeploymentMetrics) -> TokenMix | None:
    demand.ingest(memory, metrics, Slo(), 30.0, 30.0)
    return demand.current_mix(memory)


def mixes(memory: DemandMemory, pages: Iterator[DeploymentMetrics]) -> list[TokenMix]:
    return [mix for metrics in pages if (mix := take(memory, metrics)) is not None]


def after_an_hour(fleet: Fleet) -> DemandMemory:
    """Of calm."""
    memory = DemandMemory()
    mixes(memory, fleet.pages(HOUR_S))
    return memory


def test_clients_who_leave_make_no_request_heavier_or_lighter() -> None:
    """They had 900 of 3000 tokens; of twenty requests one is answered to its end."""
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.patience_s = 30.0
    found = mixes(memory, fleet.pages(2 * HOUR_S))
    assert fleet.left > 0.6 * fleet.arrivals
    assert min(mix.prompt_tokens for mix in found) > 0.94 * PROMPT
    assert max(mix.prompt_tokens for mix in found) < 1.12 * PROMPT
    assert found[-1].prompt_tokens == pytest.approx(PROMPT, rel=0.02)
    assert min(mix.output_tokens for mix in found) > 0.9 * OUTPUT
    assert max(mix.output_tokens for mix in found) < 1.12 * OUTPUT


@pytest.mark.parametrize("patience_s", [15.0, 30.0, 60.0, 90.0])
def test_where_they_always_left_their_prompts_are_known_and_their_outputs_are_bounded(patience_s: float) -> None:
    fleet, memory = Fleet(patience_s=patience_s), DemandMemory()
    mix = mixes(memory, fleet.pages(2 * HOUR_S))[-1]
    had = fleet.outputs / fleet.arrivals
    assert mix.prompt_tokens == pytest.approx(PROMPT, rel=0.02)
    assert 0.98 * had < mix.output_tokens < 3.05 * had
    assert mix.output_tokens < 1.25 * OUTPUT


def test_where_everybody_leaves_there_is_a_mix_all_the_same() -> None:
    fleet, memory = Fleet(patience_s=2.0, longer=10.0), DemandMemory()
    mix = mixes(memory, fleet.pages(1800.0))[-1]
    assert fleet.finished == 0.0
    assert (mix.prompt_tokens, mix.output_tokens) == pytest.approx((PROMPT, 180.0), rel=0.02)


def test_longer_prompts_are_seen_while_clients_leave() -> None:
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.patience_s = 30.0
    mixes(memory, fleet.pages(HOUR_S))
    fleet.prompt = 2.0 * PROMPT
    mix = mixes(memory, fleet.pages(240.0))[-1]
    assert mix.prompt_tokens == pytest.approx(2.0 * PROMPT, rel=0.2)


def test_a_surge_of_requests_so_long_that_clients_leave_is_seen() -> None:
    """Who leaves after 150 s had 4500 tokens, more than a request of before wanted."""
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.longer, fleet.patience_s = 4.0, 150.0
    mix = mixes(memory, fleet.pages(600.0))[-1]
    assert mix.output_tokens > 1.4 * OUTPUT


def test_a_service_so_slow_that_clients_leave_makes_no_request_lighter() -> None:
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.tokens_per_s, fleet.patience_s = 5.0, 60.0
    assert min(mix.output_tokens for mix in mixes(memory, fleet.pages(3 * HOUR_S))) > 0.9 * OUTPUT


def test_requests_that_became_shorter_are_seen_in_hours_where_some_always_leave() -> None:
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.patience_s, fleet.leaving = 20.0, 0.3
    mixes(memory, fleet.pages(HOUR_S))
    fleet.longer = 0.5
    assert mixes(memory, fleet.pages(4 * HOUR_S))[-1].output_tokens < 0.8 * OUTPUT


def test_the_mix_is_as_ever_when_clients_stay_again() -> None:
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.patience_s = 30.0
    mixes(memory, fleet.pages(HOUR_S))
    fleet.patience_s = math.inf
    mixes(memory, fleet.pages(2 * HOUR_S))
    fleet.longer = 0.6
    mix = mixes(memory, fleet.pages(HOUR_S))[-1]
    assert mix.output_tokens == pytest.approx(0.6 * OUTPUT, rel=0.1)


def test_a_past_in_which_clients_left_makes_no_request_heavier() -> None:
    """Of 10,000 requests of 1000 tokens 3600 were answered whole: 720 tokens; the others had 400."""
    memory = DemandMemory()
    tokens = 3600 * 720.0 + 6400 * 400.0
    assert demand.seed_mix(memory, demand.TokenSums(3600.0, 1e7, tokens, 2e6, first_tokens=10_000.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert (mix.prompt_tokens, mix.cached_prompt_tokens) == pytest.approx((1000.0, 200.0))
    assert tokens / 10_000 < mix.output_tokens < tokens / 3600


def test_a_calm_past_says_what_those_who_leave_today_wanted() -> None:
    fleet, memory = Fleet(patience_s=10.0), DemandMemory()
    past = demand.TokenSums(10_000.0, 1e4 * PROMPT, 1e4 * OUTPUT, first_tokens=10_020.0)
    demand.seed_mix(memory, past)
    assert mixes(memory, fleet.pages(HOUR_S))[-1].output_tokens == pytest.approx(OUTPUT, rel=0.1)


def test_without_first_tokens_nobody_is_known_to_have_left() -> None:
    """Of engines that export no such histogram: tokens are shared by those who got everything."""
    fleet, memory = Fleet(), DemandMemory()
    mixes(memory, (replace(metrics, ttft={}) for metrics in fleet.pages(HOUR_S)))
    fleet.patience_s = 30.0
    mix = mixes(memory, (replace(metrics, ttft={}) for metrics in fleet.pages(HOUR_S)))[-1]
    assert mix.prompt_tokens > 5.0 * PROMPT


def a_rush(fleet: Fleet) -> Iterator[DeploymentMetrics]:
    """An hour of calm, nobody for a while, eight times as many, an hour of calm."""
    for rps, seconds in ((1.0, HOUR_S), (0.0, 1200.0), (8.0, 1200.0), (1.0, HOUR_S)):
        fleet.rps = rps
        yield from fleet.pages(seconds)


def test_while_nobody_leaves_first_tokens_change_nothing() -> None:
    told, untold = DemandMemory(), DemandMemory()
    for metrics in a_rush(Fleet()):
        assert take(told, metrics) == take(untold, replace(metrics, ttft={}))


def test_a_few_who_leave_change_next_to_nothing() -> None:
    told, untold = DemandMemory(), DemandMemory()
    fleet = Fleet(patience_s=30.0, leaving=0.02)
    for metrics in fleet.pages(3 * HOUR_S):
        mix, plain = take(told, metrics), take(untold, replace(metrics, ttft={}))
        assert (mix is None) == (plain is None)
        if mix is not None and plain is not None:
            assert mix.prompt_tokens == pytest.approx(plain.prompt_tokens, rel=0.01)
            assert mix.output_tokens == pytest.approx(plain.output_tokens, rel=0.01)
    assert fleet.left > 0


def test_gauges_that_come_a_page_after_the_counters_make_nobody_leave() -> None:
    """Nor are the prompts of a rush longer: those who came are counted, and are not in progress yet."""
    memory, found = DemandMemory(), []
    before: DeploymentMetrics | None = None
    for metrics in a_rush(Fleet()):
        seen = metrics if before is None else before
        mix = take(memory, replace(metrics, ongoing=seen.ongoing, replicas=seen.replicas))
        found += [mix.prompt_tokens] if mix is not None and metrics.as_of_s > HOUR_S else []
        before = metrics
    assert max(found) < 1.3 * PROMPT


def test_a_saved_memory_goes_on_the_same() -> None:
    fleet = Fleet()
    memory = after_an_hour(fleet)
    fleet.patience_s = 30.0
    mixes(memory, fleet.pages(900.0))
    saved = msgspec.convert(msgspec.json.decode(msgspec.json.encode(memory)), DemandMemory)
    for metrics in fleet.pages(900.0):
        assert take(memory, metrics) == take(saved, metrics)


def page_of_who_all_leave(at_s: float, first_tokens: float, tokens_each: float) -> DeploymentMetrics:
    """So many came so far; each had its first token, got so many in all, and was gone before the page was read."""
    counts = (first_tokens, first_tokens, first_tokens)
    return DeploymentMetrics(
        as_of_s=at_s,
        arrivals_total={"handle": first_tokens},
        ongoing=0.0,
        replicas=(ReplicaMetrics("r1", 0.0, 0.0, 0.0, 0.1),),
        ttft={"r1": Histogram((0.1, 1.0, math.inf), counts)},
        prompt_tokens_total={"r1": first_tokens * PROMPT},
        output_tokens_total={"r1": first_tokens * tokens_each},
        finished_total={"r1": 5.0},
    )


@pytest.mark.parametrize("tokens_each", [0.0, 30.0])
def test_where_nobody_ever_ends_well_a_request_wants_a_few_times_what_all_got_at_most(tokens_each: float) -> None:
    """At 15 s so many have left that they begin to count, and not in full: none ended well to be measured by."""
    memory = DemandMemory()
    for at_s, came in ((5.0, 0.0), (10.0, 41.0), (15.0, 100.0)):
        demand.ingest(memory, page_of_who_all_leave(at_s, came, tokens_each), Slo(), 30.0, 10.0)
    assert 0.0 < abort_weight(memory) < 1.0
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.output_tokens <= 3.0 * tokens_each
