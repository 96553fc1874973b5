"""The tokens of a request: means of those that finished lately, and what to begin with before any has.

Ten minutes of memory keep the mix calm; requests that became longer would overfill the fleet before such a memory
tells. So a short one runs beside it, and where that says more than chance can explain, the long one begins anew.

A request that ends early is a request too (`aborts`): with its whole prompt, and the output it is taken to have wanted.

Where an engine's prompts are on no page, or hold no number, while its ended requests are counted, requests without
tokens would enter the mix; the other way round tokens without requests. So an engine counts for the mix with all of
its counters or not at all (`told_in_part`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from autoscaler.core.demand.aborts import (
    abort_weight,
    fade_aborts,
    ingest_aborts,
    learn_calm_output,
    left_lately,
    output_tokens,
    suppose_early,
)
from autoscaler.core.state import CounterMemory, DemandMemory, MixBefore
from autoscaler.core.types import DeploymentMetrics
from policies.base import TokenMix

T = TypeVar("T")
_NONE: frozenset[str] = frozenset()
_MIX_HALF_LIFE_S = 600.0
_MIX_MIN_REQUESTS = 10.0
_SEEDED_REQUESTS = 50.0
"""What the past counts for against the first requests that are seen."""
_LATELY_HALF_LIFE_S = 80.0
_NO_CHANCE = 3.5
"""Requests became longer where lately is so many times its usual distance above the mix."""
_WATCHED_FIRST_S = 600.0
"""Of traffic, before changes are looked for: the first requests to end are no sample of all."""
_SPREAD_COUNTS_S, _SPREAD_LASTS_S = 1200.0, 86400.0
"""What the first guess at the usual distance counts for, and how long it is remembered."""
_LEAST_SPREAD = 0.01
"""Where all requests are alike the smallest change would count."""
_LEAST_TOKENS = 1e-3
"""Of a request: with fewer nobody counts them, or not any more, and what was counted fades towards nothing."""
_FEW, _SPURT = 200.0, 8.0
"""Requests that can come into progress or leave it at once: so many, and what arrived, or a multiple of late."""
_FIRST_TOKENS = 1e6
"""So many tokens more can be counted at once, whatever requests were before: of a few with the longest contexts."""
_QUEUE_SHARE = 0.1
"""Of those being served: with more who wait, the gauges tell of moments too far apart."""


@dataclass(frozen=True, slots=True)
class TokenSums:
    """What engines counted while `requests` requests ended well; cached tokens are a part of the prompts'."""

    requests: float
    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0
    first_tokens: float | None = None
    """Requests that had one: more than ended well where clients left. None = nobody counted."""


def ingest_mix(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    now_s: float,
    since_s: float | None,
    first_tokens: float,
    none_is_zero: bool,
) -> tuple[float, float, float, float]:
    """What was added: finished requests, prompt, output and cached prompt tokens. `first_tokens`: what was of those.

    `none_is_zero`: as of `CounterMemory.advance`.
    """
    # Where no engine had counted anything before, nobody was in progress either, whatever gauges did not say.
    fresh = memory.prompt_tokens.started and not memory.prompt_tokens.series
    in_part = told_in_part(memory, metrics)
    share = _share_told(metrics, in_part)
    added = _advance(memory, metrics, now_s, since_s, none_is_zero, in_part, inside=False)
    tokens = (added[3], added[0], added[1], added[2])
    if in_part:
        more = _advance(memory, metrics, now_s, since_s, none_is_zero, in_part, inside=True)
        tokens = (added[3] + more[3], added[0] + more[0], added[1] + more[1], added[2] + more[2])
    # Those that only wait at an engine have had no token yet (a gauge that is absent adds none).
    waiting = 0.0
    for one in metrics.replicas:
        waiting += one.waiting or 0.0
    serving = None if metrics.ongoing is None else max(0.0, metrics.ongoing - waiting)
    before, memory.in_progress = 0.0 if fresh else memory.in_progress, serving
    if since_s is None:
        return tokens
    if _is_odd(memory):
        _take_back(memory)
        return tokens
    known = before is not None and serving is not None and _seen_by_the_same(memory, metrics, since_s)
    joined = (serving or 0.0) - (before or 0.0) if known else 0.0
    if abs(joined) > _FEW and abs(joined) > _FEW + _can_have_moved(memory, metrics, now_s - since_s):
        known, joined = False, 0.0
    joined *= share
    if not _is_possible(memory, metrics, now_s - since_s, first_tokens, added, before):
        return tokens
    ended = added[3]
    # Tokens are counted as they come, requests when they end. Without those half done the first requests to end would
    # seem to have had everybody's tokens; in the long run as many join as leave.
    added = (*added[:3], ended + 0.5 * joined)
    # Without traffic nothing fades: the last known mix is still the best guess for the next request. Nor does it where
    # no engine tells of all that it serves.
    traffic = ended > 0 or (first_tokens > 0 and share > 0.0 and abort_weight(memory) > 0.0)
    seconds = now_s - since_s if traffic else 0.0
    memory.mix_before = _as_it_is(memory)
    kept, kept_lately = 0.5 ** (seconds / _MIX_HALF_LIFE_S), 0.5 ** (seconds / _LATELY_HALF_LIFE_S)
    memory.mix_sums = _faded(memory.mix_sums, added, kept)
    memory.mix_lately = _faded(memory.mix_lately, (*added, ended + joined), kept_lately)
    fade_aborts(memory, kept, kept_lately)
    if in_part:
        suppose_early(memory, ended)
    elif known and metrics.ttft and metrics.finished_total:
        moved = max(first_tokens, abs(joined))
        ingest_aborts(memory, first_tokens - joined - ended, moved, now_s - since_s)
    calm = waiting <= _QUEUE_SHARE * (memory.in_progress or 0.0)
    if calm and _longer_by_no_chance(memory, seconds):
        _begin_anew(memory)
    learn_calm_output(memory, seconds, memory.mix_watched_s >= _WATCHED_FIRST_S)
    return tokens


def _advance(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    now_s: float,
    since_s: float | None,
    none_is_zero: bool,
    in_part: frozenset[str],
    inside: bool,
) -> tuple[float, float, float, float]:
    """Prompt, output and cached tokens and ended requests, of engines told of in part (`inside`) or of the others."""
    prompt, output = metrics.prompt_tokens_total, metrics.output_tokens_total
    cached, finished = metrics.cached_tokens_total, metrics.finished_total
    if in_part:
        prompt, output = only(prompt, in_part, inside), only(output, in_part, inside)
        cached, finished = only(cached, in_part, inside), only(finished, in_part, inside)
    baseline = metrics.baseline
    return (
        memory.prompt_tokens.advance(prompt, now_s, since_s, baseline, none_is_zero=none_is_zero),
        memory.output_tokens.advance(output, now_s, since_s, baseline, none_is_zero=none_is_zero),
        memory.cached_tokens.advance(cached, now_s, since_s, baseline, none_is_zero=none_is_zero),
        memory.finished.advance(finished, now_s, since_s, baseline, none_is_zero=none_is_zero),
    )


def _is_odd(memory: DemandMemory) -> bool:
    """Whether a counter of the mix went back or held no possible value lately: then its others may be wrong as well."""
    return not (
        memory.prompt_tokens.odd_at_s is None
        and memory.output_tokens.odd_at_s is None
        and memory.cached_tokens.odd_at_s is None
        and memory.finished.odd_at_s is None
        and memory.ttft.odd_at_s is None
    )


def _as_it_is(memory: DemandMemory) -> MixBefore:
    """Copies of what is changed in place; the sums are replaced at every reading."""
    return MixBefore(
        memory.mix_sums,
        memory.mix_lately,
        [*memory.mix_early],
        [*memory.mix_spread],
        memory.mix_moved,
        memory.mix_watched_s,
        memory.mix_calm_output,
    )


def _take_back(memory: DemandMemory) -> None:
    """Unlearn the newest reading: a counter that goes back had been too high before."""
    before, memory.mix_before = memory.mix_before, None
    if before is None:
        return
    memory.mix_sums, memory.mix_lately = before.sums, before.lately
    memory.mix_early, memory.mix_spread = before.early, before.spread
    memory.mix_moved, memory.mix_watched_s = before.moved, before.watched_s
    memory.mix_calm_output = before.calm_output


def _share_told(metrics: DeploymentMetrics, in_part: frozenset[str]) -> float:
    """Of the engines on the pages, the share that tell of all they serve."""
    if not in_part:
        return 1.0
    series = (metrics.prompt_tokens_total, metrics.output_tokens_total, metrics.finished_total)
    engines = {engine_of(one) for of_kind in series for one in of_kind}
    return len(engines - in_part) / len(engines) if engines else 0.0


def _is_possible(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    seconds: float,
    first_tokens: float,
    added: Sequence[float],
    in_progress: float | None,
) -> bool:
    """Whether so much can have been served in that time; what jumps further is no mix, in whichever direction.

    No more requests end, or have a first token, than there were or came. Tokens are those of some times as many
    requests of the mix as were served or are there: requests do become longer, but not all at once by so much.
    """
    prompt, output, _, ended = added
    most = max(ended, first_tokens)
    if most > _FEW and most > _FEW + _can_have_moved(memory, metrics, seconds) + (in_progress or 0.0):
        return False
    of_prompt, of_output, _, requests = memory.mix_sums
    if requests < _MIX_MIN_REQUESTS:
        return True
    served = _FEW + max(most, in_progress or 0.0)
    longest = _SPURT * served / requests
    return prompt <= longest * of_prompt + _FIRST_TOKENS and output <= longest * of_output + _FIRST_TOKENS


def _can_have_moved(memory: DemandMemory, metrics: DeploymentMetrics, seconds: float) -> float:
    """The most requests that can have come into progress or left it in that time: a gauge beyond that is wrong."""
    series = memory.arrivals.series
    came = sum(max(0.0, value - series[name][0]) for name, value in metrics.arrivals_total.items() if name in series)
    return max(came, _SPURT * memory.arrivals.pace * seconds)


def _seen_by_the_same(memory: DemandMemory, metrics: DeploymentMetrics, since_s: float) -> bool:
    """Whether no handle is missing that the last page had, and none came back: whom it alone counts did not leave."""
    now = metrics.arrivals_total
    for name, (_, seen_at_s) in memory.arrivals.series.items():
        if (name in now) != (seen_at_s == since_s):
            break
    else:
        return True
    return False


def _begin_anew(memory: DemandMemory) -> None:
    """Sums of the requests of lately, with means as far beyond those of lately as these are beyond the ones before.

    Many of those that ended lately had come before the change, and the long ones that came after it are still there:
    what is seen of a change is about half of it.
    """
    before, (*lately, requests, _) = memory.mix_sums, memory.mix_lately
    weight = abort_weight(memory)
    now, then = requests + weight * memory.mix_early[1], before[3] + weight * memory.mix_early[0]
    means = zip(lately, before[:3], strict=True)
    memory.mix_sums = [*(max(0.0, 2.0 * new - old * now / then) for new, old in means), requests]
    memory.mix_early = [memory.mix_early[1], memory.mix_early[1]]


def _faded(sums: Sequence[float], added: Sequence[float], kept: float) -> list[float]:
    faded = []
    for one, more in zip(sums, added, strict=True):
        value = kept * one + more
        faded.append(value if value > 0.0 else 0.0)
    return faded


def _longer_by_no_chance(memory: DemandMemory, seconds: float) -> bool:
    """Whether prompts or outputs of lately are longer than the mix, and not by chance; learns what chance does.

    A mean of n requests is off by the root of n less than one request is. Lengths, their spread and the swings of
    traffic all make it so; how far it goes is seen, not assumed. Shorter ones may take their time: that costs less.
    """
    prompt, output, _, requests, begun = memory.mix_lately
    weight, left = abort_weight(memory), left_lately(memory)
    requests, begun = requests + weight * left, begun + weight * left
    before = memory.mix_sums[3] + weight * memory.mix_early[0]
    if seconds <= 0.0 or min(requests, begun, before) < _MIX_MIN_REQUESTS:
        return False
    memory.mix_watched_s += seconds
    if memory.mix_watched_s < _WATCHED_FIRST_S:
        return False
    share = seconds / min(memory.mix_watched_s + _SPREAD_COUNTS_S, _SPREAD_LASTS_S)
    longer = _is_longer(memory, 0, prompt, begun, memory.mix_sums[0] / before, weight, left, share)
    # What those who left had of an output says nothing of chance, but when it is more than all were taken to want.
    wanted = memory.mix_sums[1] / before if weight <= 0.0 else output_tokens(memory, weight)
    return _is_longer(memory, 1, output, requests, wanted, weight, left, share) or longer


def _is_longer(
    memory: DemandMemory,
    which: int,
    tokens: float,
    count: float,
    usual: float,
    weight: float,
    left: float,
    share: float,
) -> bool:
    """Whether `tokens` of `count` requests lately are more than the `usual` ones of a request, by no chance.

    `which`: prompts (0) or outputs (1); `weight`, `left`: of requests that ended early (aborts.py); `share`: what this
    look counts for in what is learned of chance.
    """
    mean = tokens / count
    if mean < _LEAST_TOKENS or usual < _LEAST_TOKENS:
        return False
    distance = math.log(mean / usual) * math.sqrt(count)
    spread = memory.mix_spread
    by_chance = _NO_CHANCE * math.sqrt(max(spread[which], _LEAST_SPREAD))
    if distance <= by_chance:
        if which == 0 or weight <= 0.0:
            spread[which] += share * (distance * distance - spread[which])
        return False
    # Where only those who left and are not counted yet make them seem longer, they are not.
    every = count + (1.0 - weight) * left
    return math.log(tokens / every / usual) * math.sqrt(every) > by_chance


def seed_mix(memory: DemandMemory, sums: TokenSums) -> bool:
    """Begin with the mix of the past, as if a few requests of it had been seen; False when one is known already."""
    if current_mix(memory) is not None or sums.requests <= 0.0:
        return False
    early = 0.0 if sums.first_tokens is None else max(0.0, sums.first_tokens - sums.requests)
    share = min(1.0, _SEEDED_REQUESTS / (sums.requests + early))
    past = (sums.prompt_tokens, sums.output_tokens, sums.cached_prompt_tokens, sums.requests)
    memory.mix_sums = [own + share * old for own, old in zip(memory.mix_sums, past, strict=True)]
    memory.mix_early[0] += share * early
    learn_calm_output(memory, 0.0, watched=sums.first_tokens is not None)
    return True


def current_mix(memory: DemandMemory) -> TokenMix | None:
    """Mean tokens of a request lately; None before enough requests have finished."""
    prompt, output, cached, requests = memory.mix_sums
    weight = abort_weight(memory)
    requests += weight * memory.mix_early[0]
    if requests < _MIX_MIN_REQUESTS or prompt <= 0:
        return None
    of_output = output / requests if weight <= 0.0 else output_tokens(memory, weight)
    return TokenMix(prompt / requests, of_output, min(cached, prompt) / requests)


def engine_of(series: str) -> str:
    """The engine that a series is of; ends of requests are counted by reason (`<engine>/<reason>`)."""
    return series.partition("/")[0]


def told_in_part(memory: DemandMemory, metrics: DeploymentMetrics) -> frozenset[str]:
    """Engines that lack a counter which they had, or whose counter is not to be believed, and have another.

    An engine that is on no page at all is not among them, nor is one that has not ended a request yet.
    """
    ttft, series_of_ttft = metrics.ttft, memory.ttft.series
    # A histogram is remembered by two series: what was within the limit, and all.
    if (
        len(series_of_ttft) <= 2 * len(ttft)
        and _all_told(memory.prompt_tokens, metrics.prompt_tokens_total)
        and _all_told(memory.output_tokens, metrics.output_tokens_total)
        and _all_told(memory.cached_tokens, metrics.cached_tokens_total)
        and _all_told(memory.finished, metrics.finished_total)
    ):
        return _NONE
    counters = (
        (memory.prompt_tokens, metrics.prompt_tokens_total),
        (memory.output_tokens, metrics.output_tokens_total),
        (memory.cached_tokens, metrics.cached_tokens_total),
        (memory.finished, metrics.finished_total),
    )
    there = {engine_of(series) for _, current in counters for series in current} | ttft.keys()
    lost = {series[:-1] for series in series_of_ttft} - ttft.keys()
    for counter, current in counters:
        lost |= {engine_of(series) for series in counter.series if not _told(counter, current, series)}
    return frozenset(lost & there)


def _all_told(counter: CounterMemory, current: Mapping[str, float]) -> bool:
    return counter.odd_at_s is None and current.keys() >= counter.series.keys()


def _told(counter: CounterMemory, current: Mapping[str, float], series: str) -> bool:
    return series not in counter.fallen and current.get(series, -1.0) >= 0.0


def only(current: Mapping[str, T], engines: frozenset[str], inside: bool) -> Mapping[str, T]:
    """The series of those engines, or (not `inside`) of all others."""
    return {series: value for series, value in current.items() if (engine_of(series) in engines) == inside}
