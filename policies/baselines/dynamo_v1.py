"""`dynamo_v1`: Dynamo's SLA planner of the correction-factor generation: the next interval's work over a profile.

Re-stated from ai-dynamo/dynamo utils/{planner_core,prefill_planner,decode_planner}.py. Every 180 s: requests, prompt
and output lengths of the next interval, each predicted by itself; prefill and decode work over the profile's
throughput, corrected by how observed latencies compare with the profile's. Upstream sizes prefill and decode engines
apart; one engine does both here, so the two needs add up. An interval without traffic changes nothing, by design.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.base import DeploymentView, ReplicaProposal, Term, Totals
from policies.baselines.dynamo import best_decode_tokens_per_s, decode_s, prefill_s, prefill_tokens_per_s
from policies.baselines.dynamo_predictors import Predictor, Series, observe, predict
from policies.baselines.each import EachDeployment, bounded, stays
from policies.capacity.profile import EngineProfile
from policies.options import among, between, option

DEFAULT_ITL_S = 0.05


@dataclass(frozen=True, slots=True)
class DynamoV1Options:
    """Upstream's settings with its defaults; counts are the deployment's own."""

    adjustment_interval_s: float = option(
        180.0, low=5, high=3600, doc="how often it decides; also how far it predicts", search=between(30, 900, log=True)
    )
    itl_s: float | None = option(None, low=1e-4, doc="time between tokens to keep; null = the SLO's, else 0.05")
    load_predictor: Predictor = option(
        "arima", doc="of requests, prompt and output lengths", search=among("constant", "arima", "kalman")
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """What was observed in one interval: requests, mean lengths and latencies (seconds), replicas that served."""

    requests: float
    prompt_tokens: float
    output_tokens: float
    ttft_s: float
    itl_s: float
    replicas: int

    @property
    def duration_s(self) -> float:
        """Mean time of a request from first to last."""
        return self.ttft_s + self.itl_s * max(self.output_tokens - 1.0, 0.0)


@dataclass(slots=True)
class DynamoV1Memory:
    """Totals when the interval began, and the three series."""

    totals: Totals | None = None
    requests: Series = field(default_factory=Series)
    prompt_tokens: Series = field(default_factory=Series)
    output_tokens: Series = field(default_factory=Series)


@dataclass(slots=True)
class DynamoV1State:
    """One memory per deployment, by key."""

    deployments: dict[str, DynamoV1Memory] = field(default_factory=dict)


def interval_between(before: Totals, after: Totals, replicas: int) -> Interval | None:
    """None when something cannot be told: no request arrived, started or ended, so no mean exists."""
    requests, finished = after.arrivals - before.arrivals, after.finished - before.finished
    firsts, gaps = after.first_tokens - before.first_tokens, after.gaps - before.gaps
    if min(requests, finished, firsts, gaps) <= 0 or replicas <= 0:
        return None
    return Interval(
        requests=requests,
        prompt_tokens=(after.prompt_tokens - before.prompt_tokens) / firsts,
        output_tokens=(after.output_tokens - before.output_tokens) / finished,
        ttft_s=(after.ttft_s - before.ttft_s) / firsts,
        itl_s=(after.itl_s - before.itl_s) / gaps,
        replicas=replicas,
    )


def corrections(profile: EngineProfile, seen: Interval, interval_s: float) -> tuple[float, float]:
    """Observed over expected: of prefill (time to first token) and of decode (time between tokens)."""
    prefill = seen.ttft_s / prefill_s(profile, seen.prompt_tokens)
    concurrency = seen.requests / seen.replicas * seen.duration_s / interval_s
    context = seen.prompt_tokens + seen.output_tokens / 2
    return prefill, seen.itl_s / decode_s(profile, concurrency, context)


def needed(
    profile: EngineProfile,
    requests: float,
    prompt_tokens: float,
    output_tokens: float,
    interval_s: float,
    itl_s: float,
    factors: tuple[float, float],
) -> tuple[float, float]:
    """Engines that prefill and decode of the next interval keep busy (not rounded); decode is inf out of reach."""
    if requests <= 0 or prompt_tokens <= 0 or output_tokens <= 0:
        return 0.0, 0.0
    prefill = requests * prompt_tokens / interval_s * min(1.0, factors[0])
    prefill_engines = prefill / prefill_tokens_per_s(profile, prompt_tokens)
    corrected_s = itl_s / factors[1] if factors[1] > 0 else itl_s
    each = best_decode_tokens_per_s(profile, corrected_s, prompt_tokens + output_tokens / 2)
    decode_engines = requests * output_tokens / interval_s / each if each > 0 else math.inf
    return prefill_engines, decode_engines


class DynamoV1Policy(EachDeployment):
    """See the module."""

    Options = DynamoV1Options
    name = "dynamo_v1"

    options: DynamoV1Options

    def __init__(self, options: DynamoV1Options) -> None:
        super().__init__(options)
        self.period_s: float | None = options.adjustment_interval_s

    def new_state(self) -> DynamoV1State:
        return DynamoV1State()

    def new_memory(self) -> DynamoV1Memory:
        return DynamoV1Memory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: DynamoV1Memory, now_s: float
    ) -> ReplicaProposal:
        """Whatever is missing skips the interval."""
        o, before, after = self.options, memory.totals, d.totals
        memory.totals = after
        if d.profile is None:
            return stays(present, "there is no engine profile to plan with")
        seen = interval_between(before, after, running) if before is not None and after is not None else None
        if seen is None:
            return stays(present, "no traffic in this interval, so no latencies")
        factors = corrections(d.profile, seen, o.adjustment_interval_s)
        expected = []
        for series, value in (
            (memory.requests, seen.requests),
            (memory.prompt_tokens, seen.prompt_tokens),
            (memory.output_tokens, seen.output_tokens),
        ):
            observe(series, value)
            expected.append(predict(series, o.load_predictor))
        itl_s = o.itl_s or d.slo.itl_s or DEFAULT_ITL_S
        prefill, decode = needed(
            d.profile, expected[0], expected[1], expected[2], o.adjustment_interval_s, itl_s, factors
        )
        # An SLO out of reach leaves the least number of decode engines, as upstream has it.
        wanted = math.ceil(prefill + (decode if math.isfinite(decode) else 1.0) - 1e-9)
        count = bounded(d, wanted, lowest=1)
        why = (
            f"{expected[0]:.0f} requests expected in {o.adjustment_interval_s:g} s: {prefill:.2f} engines of prefill, "
        )
        why += f"{decode:.2f} of decode; corrections {factors[0]:.2f} and {factors[1]:.2f}"
        return ReplicaProposal(count, (Term("sla", count, why),))
