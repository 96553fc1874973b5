"""Reads a deployment's traces: its traffic, and what the forecaster may see of the past.

What is wrong with a trace is told at the scenario's key that names it. Not for keys (checks.py), and not for what
becomes of rows (workload/workload.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.common.errors import TraceError
from autoscaler.settings.document.problems import Problem
from autoscaler.settings.document.reading import Loc
from policies.base.durations import Duration
from policies.options import exact
from simulator.scenario.fleet import DeploymentBlock
from simulator.workload.synthetic import Synthetic
from simulator.workload.trace_text import EPOCH_FROM_S
from simulator.workload.traces import RateTrace, RequestTrace, read_rates, read_requests

Traffic = RequestTrace | RateTrace | Synthetic


class ProblemsError(Exception):
    """What is wrong with a scenario, before it is put into words with file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Read:
    """A deployment's traffic with the lengths that the scenario states; None = not stated."""

    traffic: Traffic
    prompt_tokens: Duration | None
    output_tokens: Duration | None


def read_traffic(at: Loc, block: DeploymentBlock, base: Path) -> Read:
    """The traffic of the deployment at `at`, paths relative to `base`. Errors: ProblemsError."""
    w = block.workload
    where = (*at, "workload")
    traffic: Traffic
    if w.requests is not None:
        with _told_at((*where, "requests")):
            traffic = _of_deployment(read_requests(base / w.requests), block.name)
    elif w.rates is not None:
        with _told_at((*where, "rates")):
            traffic = read_rates(base / w.rates)
    else:
        assert w.synthetic is not None  # check_file has made sure of it
        traffic = w.synthetic.spec()
    prompt = w.prompt_tokens or (w.synthetic.prompt_tokens if w.synthetic else None)
    output = w.output_tokens or (w.synthetic.output_tokens if w.synthetic else None)
    _check_lengths(where, traffic, prompt, output)
    # with start_s 0 nothing is too late: requests that all come at 0 s are a burst
    if not isinstance(traffic, Synthetic) and not w.repeat and w.start_s and traffic.end_s <= w.start_s:
        text = f"{exact(w.start_s)}; allowed: before the trace's end at {exact(traffic.end_s)} s"
        raise ProblemsError([Problem((*where, "start_s"), text)])
    return Read(traffic, prompt, output)


def common_start_s(traffics: Sequence[Traffic]) -> float | None:
    """The earliest first row of the traces whose times count from 1970; None where there is no such trace."""
    firsts = [first_s(t) for t in traffics if not isinstance(t, Synthetic) and counts_from_1970(t)]
    return min(firsts, default=None)


def counts_from_1970(traffic: Traffic) -> bool:
    """Whether a trace's times are those of a calendar, not of a clock of its own."""
    return not isinstance(traffic, Synthetic) and first_s(traffic) >= EPOCH_FROM_S


def first_s(trace: RequestTrace | RateTrace) -> float:
    """The time of a trace's first row, on its own clock."""
    return trace.start_s if isinstance(trace, RateTrace) else float(trace.time_s[0])


@contextmanager
def _told_at(loc: Loc) -> Iterator[None]:
    """What is wrong with a trace is a problem of the key that names it."""
    try:
        yield
    except TraceError as error:
        raise ProblemsError([Problem(loc, str(error))]) from None


def read_history(at: Loc, block: DeploymentBlock, start_s: float, traffic: Traffic, base: Path) -> Traffic | None:
    """What the forecaster may see of the past: before `start_s` of the trace's clock. Errors: ProblemsError."""
    w, h = block.workload, block.history
    if h is None:
        return None
    rates = w.rates if h.workload else h.rates
    requests = w.requests if h.workload else h.requests
    if rates is not None:
        with _told_at((*at, "workload" if h.workload else "rates")):
            return read_rates(base / rates, before_s=start_s)
    if requests is not None:
        with _told_at((*at, "workload" if h.workload else "requests")):
            return _of_deployment(read_requests(base / requests, before_s=start_s), block.name)
    return traffic


def _check_lengths(at: Loc, traffic: Traffic, prompt: Duration | None, output: Duration | None) -> None:
    """A rates trace needs each length from its columns or from the workload."""
    if isinstance(traffic, RateTrace):
        for name, given, column in (
            ("prompt_tokens", prompt, traffic.prompt_tokens),
            ("output_tokens", output, traffic.output_tokens),
        ):
            if given is None and column is None:
                text = f"missing, and {traffic.source} has no such column; allowed: tokens, or {{median: .., p99: ..}}"
                raise ProblemsError([Problem((*at, name), text)])


def _of_deployment(trace: RequestTrace, name: str) -> RequestTrace:
    """The rows of one deployment, where the trace tells deployments apart. Errors: TraceError when it has none."""
    if trace.deployment is None:
        return trace
    rows = np.flatnonzero(trace.deployment == name)
    if not rows.size:
        known = sorted(set(trace.deployment.tolist()))
        raise TraceError(f"{trace.source}: no row for deployment {name!r}; the column holds: {', '.join(known[:8])}")
    return _rows(trace, rows)


def _rows(trace: RequestTrace, which: Any) -> RequestTrace:
    cached = trace.cached_prompt_tokens
    return RequestTrace(
        trace.source,
        trace.time_s[which].copy(),
        trace.prompt_tokens[which].copy(),
        trace.output_tokens[which].copy(),
        None if cached is None else cached[which].copy(),
    )
