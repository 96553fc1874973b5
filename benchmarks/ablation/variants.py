"""The flagship minus one part: by its options where there is one for it, else by what is patched here for one run.

Product code has no switches that only a benchmark would use. What is patched must exist: a renamed part is an error and
no variant that does nothing.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

from autoscaler.core.demand import token_mix
from benchmarks.results.store import what_it_does
from policies.predictive import PredictivePolicy, context, policy, rule_selection
from policies.predictive.rules import family, simulate, sizing
from policies.predictive.rules.family import Floats
from policies.predictive.rules.fleet import RuleSimulation
from policies.predictive.rules.sizing import Frame
from policies.predictive.rules.smoothing import OccupancySmoother

_BEYOND = 1e12
"""Misses of a rule that may not be followed: it is not worth it at any price."""


class Bench:
    """What is patched stays so until the stack is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def set(self, owner: object, name: str, value: Any) -> None:
        """Errors: AttributeError where there is no such thing."""
        self._stack.enter_context(mock.patch.object(owner, name, value))

    def may_not_follow(self, blocks: Callable[[str], bool]) -> None:
        """Rules of these blocks are replayed, but seem to miss everything to whoever chooses."""
        before = RuleSimulation.expected_misses

        def expected_misses(shadow: RuleSimulation, which: int, doubt: float) -> Floats:
            missed = before(shadow, which, doubt).copy()
            for block, place in shadow.family.blocks.items():
                if blocks(block):
                    missed[place] = _BEYOND
            return missed

        self.set(RuleSimulation, "expected_misses", expected_misses)


@dataclass(frozen=True, slots=True)
class Variant:
    """`about`: what happens instead of the part. `patch`: of code, beside the policy's options."""

    name: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[Bench], None] | None = None

    @property
    def code(self) -> str:
        """A digest of what is patched; empty: nothing is."""
        return "" if self.patch is None else what_it_does(textwrap.dedent(inspect.getsource(self.patch)))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The part is out; afterwards everything is as it was."""
        with ExitStack() as stack:
            if self.patch is not None:
                self.patch(Bench(stack))
            yield


# ---------------------------------------------------------------- the family of rules


def _only_reactive(bench: Bench) -> None:
    bench.may_not_follow(lambda block: block != "reactive")


def _no_forecast_rules(bench: Bench) -> None:
    bench.may_not_follow(lambda block: block not in ("reactive", "steady"))


def _no_clock_rules(bench: Bench) -> None:
    bench.may_not_follow(lambda block: block.startswith("clock"))


def _no_steady_rules(bench: Bench) -> None:
    bench.may_not_follow(lambda block: block == "steady")


def _no_room(bench: Bench) -> None:
    for module in (family, simulate):
        bench.set(module, "STAYS", 1.0)


# ---------------------------------------------------------------- how a rule is chosen


def _no_cost_of_a_start(bench: Bench) -> None:
    def choose(*args: Any, stop_bins: int = 0, **names: Any) -> int:
        return before(*args, **names)

    before = sizing.choose
    bench.set(sizing, "choose", choose)
    settings = replace(sizing.PriceSettings(), start_cost=0.0)
    bench.set(policy, "Sizing", partial(sizing.Sizing, settings=settings))


def _no_feedback(bench: Bench) -> None:
    bench.set(rule_selection, "_got", lambda *_: None)


def _no_rehearsal(bench: Bench) -> None:
    bench.set(PredictivePolicy, "wants_backtest", False)


# ---------------------------------------------------------------- the replay


def _not_fitted(bench: Bench) -> None:
    def frame(look: context.SizingContext, bin_s: float) -> Frame:
        return replace(before(look, bin_s), lasts_s=0.0, serve_bins=0)

    before = context.SizingContext.frame
    bench.set(context.SizingContext, "frame", frame)
    bench.set(context, "_AGE_SHARE", 0.7)
    bench.set(policy, "Sizing", partial(sizing.Sizing, soft=0.1))
    _counts_as_they_are(bench)


def _counts_as_they_are(bench: Bench) -> None:
    bench.set(OccupancySmoother, "quantiles", lambda effective, counted, *_: counted)


def _median_lead(bench: Bench) -> None:
    bench.set(policy, "_LEAD_LEVEL", 0.5)


# ---------------------------------------------------------------- beside the rules


def _no_watch(bench: Bench) -> None:
    bench.set(token_mix, "_NO_CHANCE", math.inf)


def _no_prewarm(bench: Bench) -> None:
    bench.set(policy, "pool_proposals", lambda *_: {})


def _no_reflexes(bench: Bench) -> None:
    bench.set(policy, "saturation_term", lambda *_: None)
    bench.set(policy, "backlog_term", lambda *_: None)


FLAGSHIP = Variant("flagship", "as it comes")
VARIANTS = (
    FLAGSHIP,
    Variant("no shadow rules", "`follow: false`: the forecast's quantile and today's load", {"follow": False}),
    Variant("only reactive rules", "of the family, rules by recent demand alone are followed", patch=_only_reactive),
    Variant(
        "no forecast rules", "neither hold, early, keep nor clock rules: steady and reactive", patch=_no_forecast_rules
    ),
    Variant("no clock rules", "nothing by the minute of the hour", patch=_no_clock_rules),
    Variant("no steady rules", "no constant levels", patch=_no_steady_rules),
    Variant("no seasons", "the forecast is the last value, with the errors it had", {"forecaster": "last"}),
    Variant("no room at the edge", "a replica goes as soon as a rule does not want it", patch=_no_room),
    Variant("no cost of a start", "starts and stops cost what they bill", patch=_no_cost_of_a_start),
    Variant("no feedback", "what users got moves neither account nor usable share", patch=_no_feedback),
    Variant("no rehearsal", "rules have no record at the start; the forecaster has its history", patch=_no_rehearsal),
    Variant(
        "replay not fitted", "as before decision 0017: overloads queue, late starts, counts as they are",
        patch=_not_fitted,
    ),
    Variant("noise of counts left in", "forecasts of counts pass for what replicas feel", patch=_counts_as_they_are),
    Variant("median lead time", "starts are planned with the median and not with the 0.9 quantile", patch=_median_lead),
    Variant("no watch on the mix", "requests that become longer are noticed in ten minutes", patch=_no_watch),
    Variant("no pre-warmed nodes", "a node comes when a replica waits for it", patch=_no_prewarm),
    Variant("no reflexes", "neither backlog nor saturation asks for more", patch=_no_reflexes),
)  # fmt: skip
