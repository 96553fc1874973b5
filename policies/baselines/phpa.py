"""`phpa`: the predictive-horizontal-pod-autoscaler: an HPA whose recommendation may be raised by a forecast of itself.

Re-stated from jthomperoo/predictive-horizontal-pod-autoscaler. At every sync the HPA's formula gives a number of
replicas; models are fitted to the past of these very numbers, and the largest of all counts, before the HPA's limits.
So it forecasts its own output, and Holt-Winters does so one step ahead, not a lead time. Two models of upstream's:
`linear` and `holt_winters` (its smoothing parameters are given, not fitted).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, stays
from policies.baselines.hpa import HpaMemory, HpaOngoing, HpaOngoingOptions, Sample, limit_rate, recommend, stabilize
from policies.options import between, option

Model = Literal["linear", "holt_winters"]
Decision = Literal["maximum", "minimum", "mean", "median"]
_UNKNOWN_LEAD_S = 180.0


@dataclass(frozen=True, slots=True)
class PhpaOptions:
    """Upstream's settings; counts are the deployment's own. The metric is that of `hpa_ongoing`."""

    target: float | None = option(
        None,
        low=1e-9,
        doc="ongoing requests per ready replica; null = as hpa_ongoing",
        search=between(2, 256, log=True, start=30.0),
    )
    model: Model = option("linear", doc="what is fitted to past recommendations")
    decision: Decision = option("maximum", doc="how the HPA's number and the forecast become one")
    history_points: int = option(
        6, low=2, high=1000, doc="linear: recommendations that are fitted", search=between(2, 60, log=True)
    )
    look_ahead_s: float | None = option(
        None, low=0, high=86400, doc="linear: how far; null = median lead time", search=between(0, 1200, start=240.0)
    )
    season_s: float = option(86400.0, low=60, high=31 * 86400, doc="holt_winters: after this long it repeats")
    sample_s: float = option(300.0, low=15, high=3600, doc="holt_winters: recommendations are taken this often")
    stored_seasons: int = option(4, low=2, high=30, doc="holt_winters: seasons that are kept")
    alpha: float = option(0.9, low=0, high=1, doc="holt_winters: smoothing of the level")
    beta: float = option(0.9, low=0, high=1, doc="holt_winters: smoothing of the trend")
    gamma: float = option(0.9, low=0, high=1, doc="holt_winters: smoothing of the season")
    tolerance_fraction: float = option(0.1, low=0, high=1, doc="a ratio this near to 1 changes nothing")
    scale_down_stabilization_s: float = option(
        300.0, low=0, high=3600, doc="the greatest of this window counts", search=between(30, 3600, log=True)
    )


@dataclass(slots=True)
class PhpaMemory:
    """The HPA's memory, and past recommendations: every sync's (time_s, replicas), or one a sample."""

    hpa: HpaMemory = field(default_factory=HpaMemory)
    recent: list[tuple[float, int]] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    sampled_at_s: float | None = None
    season_forecast: int | None = None


@dataclass(slots=True)
class PhpaState:
    """One memory per deployment, by key."""

    deployments: dict[str, PhpaMemory] = field(default_factory=dict)


def linear(history: Sequence[tuple[float, int]], at_s: float) -> int:
    """Ordinary least squares of replicas on time, read at `at_s`, rounded up; one point stands for itself."""
    if len(history) == 1:
        return history[0][1]
    n = len(history)
    xs, ys = [t - at_s for t, _ in history], [float(r) for _, r in history]
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread > 0 else 0.0
    return math.ceil(mean_y - slope * mean_x - 1e-9)


def holt_winters(history: Sequence[int], period: int, alpha: float, beta: float, gamma: float) -> int:
    """One step ahead by additive Holt-Winters with given parameters, rounded up; 0 while history is too short."""
    if len(history) < max(2 * period, 10 + 2 * (period // 2)):
        return 0
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ExponentialSmoothing(list(history), trend="add", seasonal="add", seasonal_periods=period)
        fit = model.fit(smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, optimized=False)
        value = float(fit.forecast(1)[0])
    return math.ceil(value - 1e-9) if math.isfinite(value) else 0


def combine(decision: Decision, numbers: Sequence[int]) -> int:
    """One number of several; means and medians are rounded up."""
    if decision in ("maximum", "minimum"):
        return max(numbers) if decision == "maximum" else min(numbers)
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if decision == "median":
        return ordered[middle] if len(ordered) % 2 else math.ceil((ordered[middle - 1] + ordered[middle]) / 2)
    return math.ceil(sum(numbers) / len(numbers))


class PhpaPolicy(EachDeployment):
    """See the module."""

    Options = PhpaOptions
    name = "phpa"

    options: PhpaOptions

    def __init__(self, options: PhpaOptions) -> None:
        super().__init__(options)
        self.behaviour = HpaOngoingOptions(
            options.target, options.tolerance_fraction, scale_down_stabilization_s=options.scale_down_stabilization_s
        )
        self.hpa = HpaOngoing(self.behaviour)

    def new_state(self) -> PhpaState:
        return PhpaState()

    def new_memory(self) -> PhpaMemory:
        return PhpaMemory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: PhpaMemory, now_s: float
    ) -> ReplicaProposal:
        """The HPA's formula, the model, then the HPA's stabilisation and rates."""
        o, bounds = self.options, (max(1, d.min_replicas), d.max_replicas)
        target = self.hpa.target_of(d, memory.hpa)
        values = self.hpa.values(d)[:running]
        sample = Sample(values, missing=running - len(values), unready=max(0, present - running))
        own = None if target is None else recommend(sample, target, present, o.tolerance_fraction)
        if own is None:
            return stays(min(max(present, bounds[0]), bounds[1]), "no ongoing requests are reported")
        expected = self._forecast(d, memory, now_s, own)
        wanted = own if expected is None else combine(o.decision, [own, expected])
        held = stabilize(self.behaviour, memory.hpa, now_s, present, wanted)
        count = limit_rate(self.behaviour, memory.hpa, now_s, present, held, bounds)
        model = o.model.replace("_", "-")
        words = f"{own} by the metric" + ("" if expected is None else f", {expected} by the {model} forecast of it")
        if held > wanted:
            words += f"; {held} until the last {o.scale_down_stabilization_s:g} s allow fewer"
        return ReplicaProposal(count, (Term("ongoing", count, words),))

    def _forecast(self, d: DeploymentView, memory: PhpaMemory, now_s: float, own: int) -> int | None:
        o = self.options
        if o.model == "linear":
            memory.recent = [*memory.recent, (now_s, own)][-o.history_points :]
            ahead_s = o.look_ahead_s
            if ahead_s is None:
                ahead_s = d.lead_times.path(d.next_path).quantile(0.5) if d.lead_times else _UNKNOWN_LEAD_S
            return linear(memory.recent, now_s + ahead_s)
        if memory.sampled_at_s is None or now_s - memory.sampled_at_s >= o.sample_s - 1e-9:
            memory.sampled_at_s = now_s
            period = max(2, round(o.season_s / o.sample_s))
            memory.samples = [*memory.samples, own][-o.stored_seasons * period :]
            memory.season_forecast = holt_winters(memory.samples, period, o.alpha, o.beta, o.gamma)
        return memory.season_forecast
