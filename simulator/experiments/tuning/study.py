"""What has been tried, kept by Optuna (in a SQLite file, or in memory): asks for options to try, and remembers scores.

Optuna sees two objectives, cost per hour and misses; its sampler (TPE) is seeded by the number of trials that are done,
so that the same study goes on in the same way wherever it was broken off. The one file that knows optuna.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoscaler.common.errors import LeadtimeError
from autoscaler.common.extras import missing
from policies.options import Search
from simulator.experiments.tuning.trial import Score

Params = dict[str, Any]
_DIGITS = 4
_STARTUP = 10
"""Trials that are drawn at random before the sampler learns from them."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial that is over."""

    number: int
    params: Params
    score: Score


class Study:
    """One search of one policy's options. Errors: LeadtimeError without optuna, or for a file that is none of its."""

    def __init__(self, name: str, space: Mapping[str, Search], seed: int, path: Path | None = None) -> None:
        try:
            import optuna
        except ImportError as error:
            raise LeadtimeError(f"leadtime tune: {missing('sim', error)}") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._space, self._seed = optuna, space, seed
        try:
            self._study = optuna.create_study(
                study_name=name,
                storage=None if path is None else f"sqlite:///{path}",
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's and SQLite's own, of a file that is something else
            raise LeadtimeError(f"{path}: cannot be used as a study: {str(error).splitlines()[0]}") from error
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial({key: search.start for key, search in space.items()})

    @property
    def tried(self) -> list[Tried]:
        """Every trial that is over, in the order in which they were asked for."""
        return [
            Tried(t.number, self.rounded(t.params), Score(**t.user_attrs["score"]))
            for t in self._study.get_trials(deepcopy=False)
            if t.state.is_finished() and "score" in t.user_attrs
        ]

    def pending(self) -> list[tuple[int, Params]]:
        """Trials that were asked for and never told: the ones that a broken-off search was at."""
        running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
        return [(t.number, self.rounded(t.params)) for t in running]

    def ask(self, count: int) -> list[tuple[int, Params]]:
        """`count` more to try, by number."""
        samplers = self._optuna.samplers
        with _quiet():
            self._study.sampler = samplers.TPESampler(
                seed=self._seed + len(self.tried), n_startup_trials=_STARTUP, multivariate=True
            )
        asked = []
        for _ in range(count):
            trial = self._study.ask()
            for key, search in self._space.items():
                _suggest(trial, key, search)
            asked.append((trial.number, self.rounded(trial.params)))
        return asked

    def tell(self, number: int, score: Score) -> None:
        """What came of a trial."""
        states = self._optuna.trial.TrialState
        frozen = next(t for t in self._study.get_trials(deepcopy=False) if t.number == number)
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        trial.set_user_attr("score", asdict(score))
        if score.refused is not None:
            self._study.tell(number, state=states.FAIL)
        elif score.stopped or score.bill_per_hour is None:
            self._study.tell(number, state=states.PRUNED)
        else:
            self._study.tell(number, [score.bill_per_hour, score.misses])

    def finals(self) -> dict[str, Score]:
        """Scores on the whole scenarios, by the options as JSON."""
        attrs = self._study.user_attrs
        return {key.removeprefix("final "): Score(**v) for key, v in attrs.items() if key.startswith("final ")}

    def tell_final(self, params: Mapping[str, Any], score: Score) -> None:
        self._study.set_user_attr("final " + key_of(params), asdict(score))

    def rounded(self, params: Mapping[str, Any]) -> Params:
        """As they are tried and written down: four digits, within the range."""
        return {key: _round(params[key], search) for key, search in self._space.items() if key in params}


def key_of(params: Mapping[str, Any]) -> str:
    """Options as a key: JSON in order of names."""
    return json.dumps(dict(params), sort_keys=True)


def _suggest(trial: Any, key: str, search: Search) -> None:
    if search.values:
        trial.suggest_categorical(key, list(search.values))
    elif search.whole:
        trial.suggest_int(key, int(search.low), int(search.high), log=search.log)
    else:
        trial.suggest_float(key, search.low, search.high, log=search.log)


def _round(value: Any, search: Search) -> Any:
    if search.values or search.whole or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{_DIGITS}g}"), search.low), search.high)


def _quiet() -> Any:
    """Optuna says that `multivariate` is experimental, each time."""
    import warnings

    return warnings.catch_warnings(action="ignore")


def best_first(tried: Sequence[Tried], enough: float) -> list[Tried]:
    """Those within `enough` of the allowed misses by bill, then the others by misses; refused ones are left out."""

    def rank(one: Tried) -> tuple[bool, float, float]:
        bill = one.score.bill
        if one.score.misses <= enough and bill is not None:
            return (False, bill, one.score.misses)
        return (True, one.score.misses, math.inf if bill is None else bill)

    return sorted((t for t in tried if t.score.refused is None), key=rank)
