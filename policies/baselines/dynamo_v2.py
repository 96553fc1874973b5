"""`dynamo_v2`: Dynamo's SLA planner of the regression generation: a slow predicted floor under a quick load loop.

Re-stated from ai-dynamo/dynamo core/{throughput_scaling,load_scaling}.py, aggregated engines. Every 180 s the predicted
rate over what an engine carries within the SLO is a lower bound; every 5 s one more when all engines are expected to
miss the SLO, one fewer when each would hold it with a margin after taking over the share of the one that goes. The
regressions over forward passes that upstream learns online are replaced by the profile's step law: a perfect teacher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.base import DeploymentView, ReplicaProposal, Slo, Term, TokenMix, Totals
from policies.baselines.dynamo import EngineLoad, engine_loads, prefill_s
from policies.baselines.dynamo_predictors import Predictor, Series, observe, predict
from policies.baselines.each import EachDeployment, bounded, stays
from policies.capacity.closed_form import capacity
from policies.capacity.profile import EngineProfile
from policies.options import among, between, option

DEFAULT_TTFT_S, DEFAULT_ITL_S = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class DynamoV2Options:
    """Upstream's settings with its defaults; counts are the deployment's own."""

    throughput_interval_s: float = option(
        180.0, low=5, high=3600, doc="how often the floor moves; how far it predicts", search=between(30, 900, log=True)
    )
    load_interval_s: float = option(5.0, low=1, high=3600, doc="how often one more or fewer is considered")
    ttft_s: float | None = option(None, low=1e-3, doc="to keep; null = the SLO's, else 0.5")
    itl_s: float | None = option(None, low=1e-4, doc="to keep; null = the SLO's, else 0.05")
    load_predictor: Predictor = option(
        "arima", doc="of requests, prompt and output lengths", search=among("constant", "arima", "kalman")
    )
    sensitivity_fraction: float = option(
        0.8, low=0.01, high=1, doc="of the SLO that survivors must keep", search=between(0.2, 1.0)
    )
    min_observations: int = option(5, low=1, high=1000, doc="looks with traffic before one more or fewer")


@dataclass(slots=True)
class DynamoV2Memory:
    """Totals when the interval began, the series, the floor, and looks with traffic so far."""

    totals: Totals | None = None
    planned_at_s: float | None = None
    floor: int = 1
    why: str = "no floor yet"
    requests: Series = field(default_factory=Series)
    prompt_tokens: Series = field(default_factory=Series)
    output_tokens: Series = field(default_factory=Series)
    samples: int = 0


@dataclass(slots=True)
class DynamoV2State:
    """One memory per deployment, by key."""

    deployments: dict[str, DynamoV2Memory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promise:
    """What must be kept, in seconds, and the share of it that survivors of a removal must keep."""

    ttft_s: float
    itl_s: float
    sensitivity: float = 0.8


def estimates(profile: EngineProfile, load: EngineLoad, prompt_tokens: float, factor: float = 1.0) -> tuple[float, ...]:
    """Of one engine under `factor` times its load: time to first token behind the queue, the same without a queue,
    time between tokens with the queue taken in, and tokens in the KV cache.
    """
    running, kv, waiting = load.running * factor, load.kv_tokens * factor, load.waiting * factor
    queued = waiting * prompt_tokens
    behind_s = prefill_s(profile, queued + prompt_tokens, running, kv)
    own_s = prefill_s(profile, prompt_tokens, running, kv)
    itl_s = profile.step_s(running + waiting, kv + queued)
    return behind_s, own_s, itl_s, kv


def step(profile: EngineProfile, promise: Promise, loads: list[EngineLoad], prompt_tokens: float, replicas: int) -> int:
    """One more when every engine misses one of the promises; one fewer when after it every engine keeps both well."""
    now = [estimates(profile, load, prompt_tokens) for load in loads]
    if all(e[0] > promise.ttft_s for e in now) or all(e[2] > promise.itl_s for e in now):
        return replicas + 1
    if replicas <= 1:
        return replicas
    left = replicas / (replicas - 1)
    share, room = promise.sensitivity, profile.limits.kv_tokens
    for load in loads:
        behind_s, own_s, itl_s, kv = estimates(profile, load, prompt_tokens, left)
        waits = behind_s - own_s < (promise.ttft_s - own_s) * share
        if not (waits and itl_s < promise.itl_s * share and kv < room):
            return replicas
    return replicas - 1


def floor(profile: EngineProfile, promise: Promise, rate_rps: float, mix: TokenMix) -> int:
    """Engines for a rate, each within the promise on average and nothing held back; out of reach: at its best rate."""
    found = capacity(profile, mix, Slo(promise.ttft_s, promise.itl_s), kv_share=1.0, max_utilization=1.0)
    each = found.rps or found.saturation_rps
    return max(1, math.ceil(rate_rps / each - 1e-9))


class DynamoV2Policy(EachDeployment):
    """See the module."""

    Options = DynamoV2Options
    name = "dynamo_v2"
    telemetry: str | None = "ideal"

    options: DynamoV2Options

    def __init__(self, options: DynamoV2Options) -> None:
        super().__init__(options)
        self.period_s: float | None = options.load_interval_s

    def new_state(self) -> DynamoV2State:
        return DynamoV2State()

    def new_memory(self) -> DynamoV2Memory:
        return DynamoV2Memory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: DynamoV2Memory, now_s: float
    ) -> ReplicaProposal:
        """While replicas start or stop the load loop only watches; the floor counts always."""
        o = self.options
        if d.profile is None:
            return stays(present, "there is no engine profile to plan with")
        promise = Promise(
            o.ttft_s or d.slo.ttft_s or DEFAULT_TTFT_S, o.itl_s or d.slo.itl_s or DEFAULT_ITL_S, o.sensitivity_fraction
        )
        if memory.planned_at_s is None or now_s - memory.planned_at_s >= o.throughput_interval_s - 1e-9:
            self._plan(d, d.profile, memory, promise, now_s)
        wanted, why = present, "load: only watching"
        loads = engine_loads(d, d.profile)
        busy = any(load.running or load.waiting for load in loads)
        memory.samples += busy
        if running == present and len(loads) == running and d.mix is not None and memory.samples >= o.min_observations:
            prompt_tokens = d.mix.prompt_tokens - d.mix.cached_prompt_tokens
            wanted = step(d.profile, promise, loads, prompt_tokens, present)
            why = f"load: {wanted - present:+d}"
        count = bounded(d, max(wanted, memory.floor), lowest=1)
        terms = [Term("load", wanted, why), Term("floor", memory.floor, memory.why)]
        terms.sort(key=lambda t: -t.wants)
        return ReplicaProposal(count, tuple(terms))

    def _plan(
        self, d: DeploymentView, profile: EngineProfile, memory: DynamoV2Memory, promise: Promise, now_s: float
    ) -> None:
        """Move the floor; an interval that says nothing leaves it."""
        o, before, after = self.options, memory.totals, d.totals
        memory.totals, memory.planned_at_s = after, now_s
        if before is None or after is None or after.first_tokens <= before.first_tokens:
            return
        firsts, finished = after.first_tokens - before.first_tokens, after.finished - before.finished
        prompt = (after.prompt_tokens - before.prompt_tokens) / firsts
        cached = (after.cached_prompt_tokens - before.cached_prompt_tokens) / firsts
        if finished <= 0 or prompt <= 0:
            return
        observe(memory.requests, after.arrivals - before.arrivals)
        observe(memory.prompt_tokens, prompt)
        observe(memory.output_tokens, (after.output_tokens - before.output_tokens) / finished)
        expected = [predict(s, o.load_predictor) for s in (memory.requests, memory.prompt_tokens, memory.output_tokens)]
        rate_rps = max(expected[0], 0.0) / o.throughput_interval_s
        hits = min(max(cached / prompt, 0.0), 1.0)
        mix = TokenMix(max(expected[1], 1.0), max(expected[2], 1.0), hits * max(expected[1], 1.0))
        memory.floor = floor(profile, promise, rate_rps, mix)
        memory.why = f"{rate_rps:.3g} req/s expected in the next {o.throughput_interval_s:g} s"
