"""What Prometheus answers, as the pages that `join` knows; and the queries that ask for it. Pure.

A range selector gives every sample with its own time, which an instant value does not: only so can old be told from
new. All series of one scrape have one time; what the last scrape of a target no longer had is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan, nan
from typing import Any

from autoscaler.common.errors import SourceError
from autoscaler.common.fields import MOST_NUMBER, clean
from autoscaler.sources.exposition import Sample, Series, histogram_of
from autoscaler.sources.join import NodePage
from autoscaler.sources.names import (
    APPLICATION,
    DEPLOYMENT,
    EDGE,
    FINISHED_REASON,
    GOOD_FINISHES,
    REPLICA,
    REPLICA_ID,
    ROLES,
    SERVE_HANDLED,
    SERVE_PROCESSING,
    SERVE_ROUTED,
    VLLM_CACHE_HITS,
    VLLM_CACHED_TOKENS,
    VLLM_FINISHED,
    VLLM_OUTPUT_TOKENS,
    VLLM_PROMPT_TOKENS,
    VLLM_TTFT_BUCKET,
    Field,
)
from policies.base import DeploymentKey

_TARGET = ("instance", "pod", "job")
"""Labels that say which page a series was on."""
_SAME_SCRAPE_S = 1.0
_LATEST_S = 1e11
MOST_POINTS = 10_000
"""Points of one range query; Prometheus refuses more than 11,000."""


# ---------------------------------------------------------------- queries


def filled_in(match: str, namespace: str, service: str) -> str:
    """Label matchers with `{namespace}` and `{service}` replaced by the service's."""
    return match.replace("{namespace}", _escaped(namespace)).replace("{service}", _escaped(service))


def signals_query(match: str, lookback_s: float) -> str:
    """Every metric that `join` knows, with the samples of the last `lookback_s` seconds."""
    names = "|".join(sorted(ROLES))
    named = f'__name__=~"{names}"'
    return f"{{{_joined(named, match)}}}[{lookback_s:g}s]"


def history_query(key: DeploymentKey, match: str, window_s: float) -> str:
    """Arrivals per second of a deployment, counted where they queue; of an older Serve where they were handled."""
    of = f'application="{_escaped(key.app)}", deployment="{_escaped(key.deployment)}"'
    sums = [f"sum(rate({name}{{{_joined(of, match)}}}[{window_s:g}s]))" for name in (SERVE_ROUTED, SERVE_HANDLED)]
    return " or ".join(sums)


def token_queries(key: DeploymentKey, match: str, window_s: float) -> dict[Field, str]:
    """What a deployment's replicas counted in the window: prompt, output, cached and first tokens, finished requests.

    vLLM's series only name the replica; which deployment that was of, also of one that is gone, is in Serve's.
    """
    window = f"[{window_s:g}s]"
    of = f'{APPLICATION}="{_escaped(key.app)}", {DEPLOYMENT}="{_escaped(key.deployment)}"'
    seen = f"last_over_time({SERVE_PROCESSING}{{{_joined(of, match)}}}{window})"
    owned = f'group by ({REPLICA_ID}) (label_replace({seen}, "{REPLICA_ID}", "$1", "{REPLICA}", "(.+)"))'

    def counted(name: str, *more: str) -> str:
        both = (
            f"{spelling}{{{_joined(*more, match)}}}{window}" for spelling in (name, name.replace("_vllm_", "_vllm:", 1))
        )
        return " or ".join(f"sum(increase({one}) * on ({REPLICA_ID}) group_left () {owned})" for one in both)

    good = "|".join(sorted(GOOD_FINISHES))
    return {
        "prompt_tokens": counted(VLLM_PROMPT_TOKENS),
        "output_tokens": counted(VLLM_OUTPUT_TOKENS),
        "cached_tokens": f"{counted(VLLM_CACHED_TOKENS)} or {counted(VLLM_CACHE_HITS)}",
        "finished": counted(VLLM_FINISHED, f'{FINISHED_REASON}=~"{good}"'),
        "ttft": counted(VLLM_TTFT_BUCKET, f'{EDGE}="+Inf"'),
    }


def spans(since_s: float, until_s: float, bin_s: float) -> Iterator[tuple[float, float]]:
    """Ends of bins in (since, until], in pieces of a size that Prometheus answers: (first end, last end)."""
    first, last = int(since_s // bin_s) + 1, int(until_s // bin_s)
    while first <= last:
        piece = min(last, first + MOST_POINTS - 1)
        yield first * bin_s, piece * bin_s
        first = piece + 1


def _joined(*matchers: str) -> str:
    return ", ".join(text for text in matchers if text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# ---------------------------------------------------------------- answers


def pages_of(result: object) -> dict[str, NodePage]:
    """The pages behind a matrix (`signals_query`), by target. Errors: SourceError when it has another shape.

    Their series count as read for the first time, always: a series that Prometheus has is often older than our own
    view of it, and what it counted meanwhile is no spike of now. A new series thereby loses its first value.
    """
    by_target: dict[str, list[tuple[float, str, dict[str, str], float]]] = {}
    for labels, points in _series(result):
        at_s, value = points[-1]
        name = labels.pop("__name__", "")
        target = "/".join(labels.get(label, "") for label in _TARGET)
        by_target.setdefault(target, []).append((at_s, name, labels, value))
    return {target: _page(rows) for target, rows in by_target.items()}


def _page(rows: Sequence[tuple[float, str, dict[str, str], float]]) -> NodePage:
    as_of_s = max(row[0] for row in rows)
    fresh = [row for row in rows if row[0] > as_of_s - _SAME_SCRAPE_S]
    plain = [Sample(Series(name, labels), value) for _, name, labels, value in fresh if EDGE not in labels]
    return NodePage(as_of_s, (*plain, *_histograms(fresh)), first=True)


def _histograms(rows: Iterable[tuple[float, str, dict[str, str], float]]) -> Iterator[Sample]:
    found: dict[tuple[str, str], tuple[Series, dict[float, float]]] = {}
    for _, name, labels, value in rows:
        if EDGE in labels:
            series = Series(name, {label: text for label, text in labels.items() if label != EDGE})
            try:
                edge = float(labels[EDGE])
            except ValueError:
                edge = nan
            found.setdefault((name, series.id), (series, {}))[1][edge] = value
    for series, counts in found.values():
        histogram = None if any(map(isnan, counts)) else histogram_of(counts)
        if histogram is not None:
            yield Sample(series, histogram)


def number_of(result: object) -> float | None:
    """The newest value of a matrix with at most one series; None when it has none."""
    found = rates_of(result)
    return found[-1][1] if found else None


def rates_of(result: object) -> list[tuple[float, float]]:
    """(end of bin, requests per second) from a matrix with at most one series; what is missing is left out."""
    found: dict[float, float] = {}
    for _, points in _series(result):
        found.update({at_s: value for at_s, value in points if 0.0 <= value <= MOST_NUMBER})
    return sorted(found.items())


def _series(result: object) -> Iterator[tuple[dict[str, str], list[tuple[float, float]]]]:
    try:
        if not isinstance(result, list):
            raise TypeError
        for row in result:
            metric: Mapping[str, Any] = row["metric"]
            points = [(float(at_s), float(value)) for at_s, value in row["values"]]
            points = [point for point in points if 0.0 <= point[0] <= _LATEST_S]
            if points:
                yield {clean(str(name)): clean(str(value)) for name, value in metric.items()}, points
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError):
        raise SourceError("the answer has another shape than Prometheus' API") from None
