"""Learned distributions of the stages of a cold start, and the lead times that follow from them.

Each stage is a log-normal. The configured prior counts as a few observations; what is observed fades, start by start,
so that a shift (a bigger model, a slower registry) is followed within a few starts. Plain data; reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from policies.base import LeadPath, LeadTimes
from policies.base.durations import Duration

_PRIOR_WEIGHT = 3.0
"""Observations that a prior is worth before anything was observed."""
_KEEP = 0.75
"""What an observation keeps of its weight at each later one, and the prior: memory of about four starts."""
_VOLLEY_S = 600.0
"""Starts asked for together end in order of their length, the slowest last: observations nearer than this fade less."""
_MOST_WEIGHT = 12.0
"""Of observations in all: a shift is followed within so many starts, however many were seen at once."""
_HALF_LIFE_S = 30 * 86400.0
"""After this long without a start, half of what was learned is given back to the prior."""
_SHORTEST_S = 0.05
"""Durations below this are taken for it: the logarithm of 0 is of no use."""
_LEAST_SHARE = 0.1
"""Of its mean: a stage that is part of a start took at least this much of it."""
_NORMAL = NormalDist()


@dataclass(slots=True)
class StageRecord:
    """What was seen of one stage: faded weight, mean and variance of the logarithm of seconds.

    `overdue_s`: the longest a start under way had lasted when last looked at (0 = none overdue is known).
    """

    weight: float = 0.0
    mean_log: float = 0.0
    variance_log: float = 0.0
    starts: float = 0.0
    last_at_s: float = 0.0
    overdue_s: float = 0.0
    overdue_at_s: float = 0.0


@dataclass(slots=True)
class StageBook:
    """Every stage by key; see the key functions below."""

    stages: dict[str, StageRecord] = field(default_factory=dict)

    def observe(self, stage_key: str, seconds: float, now_s: float) -> None:
        """One start passed this stage in `seconds`; it ends what was known of overdue starts up to that length."""
        record = self.stages.setdefault(stage_key, StageRecord(last_at_s=now_s))
        value = math.log(max(seconds, _SHORTEST_S))
        faded = _half_lives(now_s - record.last_at_s)
        apart = min(max(now_s - record.last_at_s, 0.0) / _VOLLEY_S, 1.0)
        old = min(record.weight, _MOST_WEIGHT) * _KEEP**apart * faded
        total = old + 1.0
        step = value - record.mean_log
        record.mean_log += step / total
        record.variance_log = old / total * (record.variance_log + step * step / total)
        record.weight = total
        record.starts = record.starts * faded + 1.0
        record.last_at_s = now_s
        if seconds >= record.overdue_s * 0.9:
            record.overdue_s = 0.0

    def observe_censored(self, stage_key: str, elapsed_s: float, now_s: float) -> None:
        """A start is still in this stage after `elapsed_s`. Call it for each such start at each look.

        Only the longest of one look counts, and only while it is longer than expected; a later look replaces it.
        """
        record = self.stages.setdefault(stage_key, StageRecord(last_at_s=now_s))
        if now_s > record.overdue_at_s:
            record.overdue_s = elapsed_s
        else:
            record.overdue_s = max(record.overdue_s, elapsed_s)
        record.overdue_at_s = now_s

    def none_under_way(self, stage_key: str) -> None:
        """No start is in this stage now: what was known of an overdue one goes with it (it was given up)."""
        record = self.stages.get(stage_key)
        if record is not None:
            record.overdue_s = 0.0

    def observe_together(
        self, parts: Mapping[str, Duration], seconds: float, now_s: float, learned_elsewhere: Collection[str] = ()
    ) -> None:
        """One start went through all these stages (key -> prior) in `seconds`; only the whole was seen.

        Each learns its share (`shares`) of it, but for those that somebody measures by themselves.
        """
        believed = [self.estimate(key, prior) for key, prior in parts.items()]
        for key, part_s in zip(parts, shares(believed, seconds), strict=True):
            if part_s > 0.0 and key not in learned_elsewhere:
                self.observe(key, part_s, now_s)

    def estimate(self, stage_key: str, prior: Duration) -> Duration:
        """The distribution of the next start's stage; the prior itself when nothing was seen.

        Normal model on the logarithm: pooled mean and variance of prior and faded observations, widened by what is not
        known of the mean. A prior of 0 s (stage absent) has no weight against an observation.
        """
        record = self.stages.get(stage_key)
        if record is None:
            return prior
        mean, variance, weight = _pooled(record, prior)
        if record.starts == 0.0:
            mean, variance = _log(prior.median_s), prior.sigma**2
        if record.overdue_s > max(math.exp(mean), _SHORTEST_S):
            value = _expected_log_beyond(mean, math.sqrt(variance), math.log(record.overdue_s))
            step = value - mean
            mean += step / (weight + 1.0)
            variance = weight / (weight + 1.0) * (variance + step * step / (weight + 1.0))
        elif record.starts == 0.0:
            return prior
        return Duration(math.exp(mean), math.sqrt(variance))


def _pooled(record: StageRecord, prior: Duration) -> tuple[float, float, float]:
    """Mean, predictive variance and weight of prior and observations together."""
    prior_weight = _PRIOR_WEIGHT * _KEEP**record.starts if prior.median_s > 0 else 0.0
    total = prior_weight + record.weight
    if total == 0.0:
        return _log(prior.median_s), prior.sigma**2, 0.0
    step = record.mean_log - _log(prior.median_s)
    mean = _log(prior.median_s) + step * record.weight / total
    inside = prior_weight * prior.sigma**2 + record.weight * record.variance_log
    between = prior_weight * record.weight / total * step * step
    return mean, (inside + between) / total * (1.0 + 1.0 / total), total


def _expected_log_beyond(mean: float, sigma: float, log_elapsed: float) -> float:
    """E[log T | T > elapsed] of a log-normal: mean + sigma * (inverse Mills ratio); a constant ends right now."""
    if sigma <= 1e-9:
        return log_elapsed
    z = (log_elapsed - mean) / sigma
    tail = _NORMAL.cdf(-z)
    mills = _NORMAL.pdf(z) / tail if tail > 1e-12 else z + 1.0 / z
    return max(mean + sigma * mills, log_elapsed)


def _log(seconds: float) -> float:
    return math.log(max(seconds, _SHORTEST_S))


def _half_lives(elapsed_s: float) -> float:
    return float(0.5 ** (max(elapsed_s, 0.0) / _HALF_LIFE_S))


# ---------------------------------------------------------------- the stages of a replica's way


PROVISION = "/provision"


def provision_key(pool: str) -> str:
    """Node asked for -> node Ready."""
    return f"{pool}{PROVISION}"


def image_pull_key(pool: str) -> str:
    """Node Ready -> the image is on it (first worker of an image on a node)."""
    return f"{pool}/image_pull"


def worker_start_key(pool: str) -> str:
    """Image present -> the Ray worker has joined."""
    return f"{pool}/worker_start"


def replica_key(deployment: str) -> str:
    """Serve STARTING -> RUNNING on a free GPU: weights loaded, engine initialised."""
    return f"{deployment}/replica"


@dataclass(frozen=True, slots=True)
class StagePriors:
    """What is believed of each stage before anything was seen."""

    provision: Duration
    image_pull: Duration
    worker_start: Duration
    replica: Duration


def stages(deployment: str, pool: str | None, path: LeadPath, priors: StagePriors) -> dict[str, Duration]:
    """Keys and priors of the stages that a start goes through on this path, in their order."""
    replica = {replica_key(deployment): priors.replica}
    if pool is None or path == "free_gpu":
        return replica
    worker = {worker_start_key(pool): priors.worker_start}
    if path == "warm_node":
        return worker | replica
    return {provision_key(pool): priors.provision, image_pull_key(pool): priors.image_pull} | worker | replica


def shares(stages_of: Sequence[Duration], seconds: float) -> list[float]:
    """What each of several independent stages took, given what they took together: seconds, same order.

    Conditional means under a normal approximation, mean + variance / sum of variances * surprise: who is known well
    keeps what he is known for, and who is not takes the surprise. None falls below a tenth of its mean.
    """
    means = [s.mean_s for s in stages_of]
    variances = [s.variance_s2 for s in stages_of]
    if not sum(variances) > 0.0:
        variances = means if sum(means) > 0.0 else [1.0] * len(means)
    surprise = seconds - sum(means)
    parts = [
        max(mean + variance / sum(variances) * surprise, _LEAST_SHARE * mean)
        for mean, variance in zip(means, variances, strict=True)
    ]
    return [part * seconds / sum(parts) for part in parts] if sum(parts) > 0.0 else parts


def lead_times(book: StageBook, deployment: str, pool: str | None, priors: StagePriors) -> LeadTimes:
    """From asking for a replica until it is RUNNING, by path; `pool` None (nodes unknown): the replica's own start.

    A warm node is taken to have the image: only the first worker of an image on a node has to pull it, and a node that
    was warmed for us has been through that.
    """
    replica = book.estimate(replica_key(deployment), priors.replica)
    if pool is None:
        return LeadTimes(replica, replica, replica)
    worker = book.estimate(worker_start_key(pool), priors.worker_start)
    image = book.estimate(image_pull_key(pool), priors.image_pull)
    provision = book.estimate(provision_key(pool), priors.provision)
    return LeadTimes(
        free_gpu=replica,
        warm_node=Duration.total([worker, replica]),
        new_node=Duration.total([provision, image, worker, replica]),
    )
