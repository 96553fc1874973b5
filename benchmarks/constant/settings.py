"""Constant settings of the flagship: told another target than the one it is judged by, or one rule throughout.

Neither is an option of the product: a rule is fixed by what is patched here for one run, as in the ablation.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.ablation.variants import Bench
from benchmarks.results.store import what_it_does
from policies.predictive.rules import sizing
from policies.predictive.rules.fleet import RuleSimulation
from policies.predictive.rules.shadow_price import Account


@dataclass(frozen=True, slots=True)
class Setting:
    """`told`: the target fraction that the policy believes in; `rule`: the one of its family that it follows. None: as
    it comes.
    """

    name: str
    about: str
    told: float | None = None
    rule: str | None = None

    @property
    def code(self) -> str:
        """A digest of what is patched; empty: nothing is."""
        return "" if self.rule is None else what_it_does(inspect.getsource(_follow))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Afterwards everything is as it was."""
        with ExitStack() as stack:
            if self.rule is not None:
                _follow(Bench(stack), self.rule)
            yield


def _follow(bench: Bench, rule: str) -> None:
    """Every choice is this rule; prices and accounts are reckoned as ever. Errors: ValueError: no such rule."""

    def choose(shadow: RuleSimulation, account: Account, *args: Any, **names: Any) -> int:
        before(shadow, account, *args, **names)
        account.rule = shadow.family.names.index(rule)
        return account.rule

    before = sizing.choose
    bench.set(sizing, "choose", choose)
    bench.set(sizing, "_FIRST_RULE", rule)


def _told(target_fraction: float) -> Setting:
    return Setting(f"told {target_fraction:g}", f"believes in a target of {100 * target_fraction:g} %", target_fraction)


def _fixed(rule: str) -> Setting:
    return Setting(rule, f"follows rule `{rule}` and no other", rule=rule)


_TOLD = (0.985, 0.98, 0.97)
_RULES = (
    "hold 0.1", "hold 0.25", "hold 0.5", "hold 0.8", "keep 0.25", "clock 0.87",
    "reactive 0.8/300 s", "reactive 0.9/300 s", "reactive 0.9/900 s", "reactive 1/300 s",
)  # fmt: skip
"""Of each kind those that the flagship's own replay ends with as the cheapest on these scenarios, and less careful
ones: the replay counts more misses than users have, and backlog and saturation mend what a rule lacks.
"""

FLAGSHIP = Setting("flagship", "as it comes")
SETTINGS = (FLAGSHIP, *map(_told, _TOLD), *map(_fixed, _RULES))
