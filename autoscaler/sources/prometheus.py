"""Prometheus, through prometheus-api-client and off the event loop: the only file that imports it.

Two uses: `PrometheusSource` gives metrics where the nodes' own pages cannot be read, `PrometheusHistory` what traffic
there was before the controller started. The client's retries are off and every call has one deadline: who asks again,
and when, is the caller's business. What the answers mean is in prometheus_samples.py.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from autoscaler.common.errors import LeadtimeError, SourceError
from autoscaler.common.redaction import blank
from autoscaler.common.secret_files import read_secret
from autoscaler.core.demand import TokenSums
from autoscaler.core.ports import Reading, Source
from autoscaler.sources.prometheus_samples import (
    filled_in,
    history_query,
    number_of,
    pages_of,
    rates_of,
    signals_query,
    spans,
    token_queries,
)
from autoscaler.sources.readings import NodePages, PagesOfServices
from policies.base import DeploymentKey

MOST_BYTES = 128 * 1024 * 1024
_LOOKBACK_S = 90.0
_RATE_WINDOW_S = 120.0
"""Four scrapes of 30 s: shorter windows have holes, longer ones blunt peaks."""
_STATUS = re.compile(r"HTTP Status Code (\d+) \(b['\"](.*)['\"]\)", re.DOTALL)


class _Session(requests.Session):
    """Follows no redirect (a token must not travel on) and reads no endless answer."""

    def __init__(self, limit_s: float, ca_file: Path | None) -> None:
        super().__init__()
        self._limit_s = limit_s
        self.trust_env = False
        if ca_file is not None:
            self.verify = str(ca_file)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        ends_at = time.monotonic() + self._limit_s
        response = super().request(*args, **{**kwargs, "allow_redirects": False, "stream": True})
        parts, size = [], 0
        while part := response.raw.read1(65536, decode_content=True):  # what has come, without waiting for more
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise requests.exceptions.InvalidHeader(f"more than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > ends_at:
                raise requests.exceptions.ReadTimeout
        response._content = b"".join(parts)
        return response


class PrometheusClient:
    """Queries with one deadline each. Errors: SourceError, one line without secrets; ConfigError of the files."""

    def __init__(
        self, url: str, token_file: Path | None = None, ca_file: Path | None = None, timeout_s: float = 10.0
    ) -> None:
        self.shown = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(4)

    async def matrix(self, query: str, at_s: float) -> object:
        """An instant query of a range selector: raw samples up to `at_s`."""
        return await self._call(lambda client: client.custom_query(query, {"time": at_s}))

    async def matrix_range(self, query: str, start_s: float, end_s: float, step_s: float) -> object:
        start, end = datetime.fromtimestamp(start_s, UTC), datetime.fromtimestamp(end_s, UTC)
        return await self._call(lambda client: client.custom_query_range(query, start, end, f"{step_s:g}"))

    async def _call(self, ask: Callable[[PrometheusConnect], Any]) -> object:
        """In a thread that ends by itself soon after the deadline, since its session has the same one."""
        async with self._slots:
            try:
                return await asyncio.wait_for(asyncio.to_thread(self._ask, ask), self._timeout_s)
            except TimeoutError:
                raise SourceError(f"{self.shown}: no answer within {self._timeout_s:g} s") from None

    def _ask(self, ask: Callable[[PrometheusConnect], Any]) -> object:
        """A client of its own for each call: tokens are rotated, and a session is not for two threads."""
        headers = {} if self._token_file is None else {"Authorization": f"Bearer {read_secret(self._token_file)}"}
        session = _Session(self._timeout_s, self._ca_file)
        try:
            with PrometheusConnect(
                self.shown, headers=headers, session=session, retry=Retry(total=0), timeout=self._timeout_s
            ) as client:
                return ask(client)
        except PrometheusApiClientException as error:
            raise SourceError(f"{self.shown}: {self._refusal(str(error))}") from None
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            raise SourceError(f"{self.shown}: no answer within {self._timeout_s:g} s") from None
        except requests.exceptions.JSONDecodeError:
            raise SourceError(f"{self.shown}: the answer is not JSON: is that a Prometheus?") from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SourceError(f"{self.shown}: {_problem(error)}") from None
        except (KeyError, TypeError, ValueError):
            raise SourceError(f"{self.shown}: the answer has another shape than Prometheus' API") from None

    def _refusal(self, text: str) -> str:
        match = _STATUS.search(text)
        status, body = (int(match[1]), match[2]) if match else (0, text)
        token = "the token in token_file was not accepted" if self._token_file else "it wants a token: set token_file"
        if status in (401, 403):
            return f"answered {status}: {token}"
        if 300 <= status < 400:
            return f"answered {status}: it redirects to somewhere else: give Prometheus' own address"
        return f"answered {status}: {' '.join(blank(body).split())[:160]}"


def _problem(error: Exception) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted: set ca_file"
    if "refused" in text:
        return "connection refused"
    if isinstance(error, requests.exceptions.InvalidHeader):
        return blank(text)
    return f"no usable answer ({type(error).__name__})"


class PrometheusSource(Source):
    """Metrics of one Ray cluster from Prometheus; `data` of its readings is `NodePages`, as of the nodes themselves.

    It asks at most every `period_s`, since there is nothing new before the next scrape; until then it gives what it
    has.
    """

    def __init__(
        self, name: str, namespace: str, service: str, client: PrometheusClient, match: str = "", period_s: float = 15.0
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.service = service
        self._client = client
        self._query = signals_query(filled_in(match, namespace, service), _LOOKBACK_S)
        self._period_s = period_s
        self._asked_at_s: float | None = None
        self._last: Reading | None = None

    async def read(self, now_s: float) -> Reading:
        young = self._asked_at_s is not None and now_s - self._asked_at_s < self._period_s
        if self._last is None or not young or not self._last.up:
            self._asked_at_s = now_s
            self._last = await self._read(now_s)
        return self._last

    async def _read(self, now_s: float) -> Reading:
        try:
            pages = pages_of(await self._client.matrix(self._query, now_s))
        except LeadtimeError as error:
            return Reading(self.name, up=False, as_of_s=None, why=str(error))
        if not pages:
            why = f"{self._client.shown}: has no metrics of Ray Serve for {self.namespace}/{self.service}"
            return Reading(self.name, up=False, as_of_s=None, why=why)
        as_of_s = max(page.as_of_s for page in pages.values())
        return Reading(self.name, True, as_of_s, NodePages(self.namespace, self.service, pages))

    async def close(self) -> None:
        """Nothing is kept open."""


class PrometheusFleet:
    """`PrometheusSource` for all services that there are, as one source; `data` is `PagesOfServices`."""

    name = "prometheus"

    def __init__(
        self,
        client: PrometheusClient,
        match: str,
        places: Callable[[], Iterable[tuple[str, str]]],
        period_s: float = 15.0,
    ) -> None:
        """`places`: (namespace, service) of every service to ask for, at each read."""
        self._client = client
        self._match = match
        self._places = places
        self._period_s = period_s
        self._sources: dict[tuple[str, str], PrometheusSource] = {}

    async def read(self, now_s: float) -> Reading:
        wanted = sorted(set(self._places()))
        self._sources = {
            place: self._sources.get(place)
            or PrometheusSource(self.name, *place, self._client, self._match, self._period_s)
            for place in wanted
        }
        readings = await asyncio.gather(*(source.read(now_s) for source in self._sources.values()))
        good = [one for one in readings if one.up]
        failed = [one.why for one in readings if not one.up]
        why = f"{failed[0]}{f' (and {len(failed) - 1} more)' if failed[1:] else ''}" if failed else ""
        if not good:
            return Reading(self.name, False, None, None, why or "there is no service to ask for yet")
        as_of_s = max(one.as_of_s for one in good if one.as_of_s is not None)
        return Reading(self.name, True, as_of_s, PagesOfServices(tuple(one.data for one in good)), why)

    async def close(self) -> None:
        """Nothing is kept open."""


class PrometheusHistory:
    """Arrival rates and token counts of the past, for a controller that starts with nothing."""

    def __init__(self, client: PrometheusClient, match: str = "") -> None:
        self._client = client
        self._match = match

    async def rates(
        self, key: DeploymentKey, bin_s: float, since_s: float, until_s: float
    ) -> list[tuple[float, float]]:
        """(end of bin, requests per second) in (since, until], ascending; bins without data are left out.

        Errors: SourceError.
        """
        query = history_query(key, filled_in(self._match, key.namespace, key.service), _RATE_WINDOW_S)
        found: list[tuple[float, float]] = []
        for first_s, last_s in spans(since_s, until_s, bin_s):
            found += rates_of(await self._client.matrix_range(query, first_s, last_s, bin_s))
        return found

    async def token_sums(self, key: DeploymentKey, since_s: float, until_s: float) -> TokenSums | None:
        """What engines counted in (since, until]; None when none did.

        Errors: SourceError.
        """
        queries = token_queries(key, filled_in(self._match, key.namespace, key.service), until_s - since_s)
        answers = (self._client.matrix_range(query, until_s, until_s, 60.0) for query in queries.values())
        found = dict(zip(queries, [number_of(answer) for answer in await asyncio.gather(*answers)], strict=True))
        requests, prompt, output = found["finished"], found["prompt_tokens"], found["output_tokens"]
        if not requests or not prompt or output is None:
            return None
        return TokenSums(requests, prompt, output, min(found["cached_tokens"] or 0.0, prompt), found["ttft"])
