"""Pre-warming by a GKE node pool's own bounds, through google-cloud-container. The only file that imports it.

Where the cluster autoscaler works on the pool, its least size is raised (`totalMinNodeCount`, or `minNodeCount` where
the pool is bounded per zone) and the autoscaler brings the nodes; it takes none below. Where it is off, the size is
set. Every change is an operation that Google works off by itself: one at a time, looked at each tick. Not for node
pools that the settings do not name.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import google.auth
import msgspec
from google.api_core import exceptions as google_errors
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import container_v1

from autoscaler.actuators.prewarm import Allowed, Held, Surroundings
from autoscaler.common.errors import ActuatorError, Conflict, Forbidden, NotFound, Rejected, Unavailable
from autoscaler.common.redaction import blank, remember
from autoscaler.core.types import PoolPlan
from autoscaler.core.types.pools import GkePool, WarmPool
from autoscaler.kubernetes.resources import Throttled

OPERATION_WITHIN_S = 900.0
"""An operation that takes longer is said to be late; it goes on, and no other one can begin."""
BUSY_KNOWN_S = 60.0
"""So long what the last plan said of the nodes in use counts when everything is given back."""
AGAIN_AFTER_S = 120.0
"""After an operation that failed the next one follows no sooner."""
_IDENTITY = "no credentials for Google's API: Workload Identity (serviceAccount.annotations), or GOOGLE_APPLICATION_..."


@dataclass(frozen=True, slots=True)
class _Seen:
    """The pool as read, and what keeps from changing it now ("" = nothing)."""

    pool: Any
    zones: int
    most: int | None
    waits: str = ""
    busy: int | None = None


@dataclass(slots=True)
class _Operation:
    """A change under way, or one that failed."""

    name: str
    begun_at_s: float
    failed_at_s: float | None = None
    words: str = ""


class RememberedCredentials(Credentials):
    """Google's credentials, whose access tokens are known (`redaction`) before they are sent."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._credentials = credentials

    def refresh(self, request: Any) -> None:
        self._credentials.refresh(request)  # type: ignore[no-untyped-call]

    def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        """What is sent with a request, a fresh token where the last one has run out."""
        self._credentials.before_request(request, method, url, headers)  # type: ignore[no-untyped-call]
        remember(headers.get("authorization", "").removeprefix("Bearer "))


def _google_client() -> container_v1.ClusterManagerAsyncClient:
    scopes = container_v1.ClusterManagerClient.get_transport_class().AUTH_SCOPES
    found, _ = google.auth.default(scopes=scopes)
    return container_v1.ClusterManagerAsyncClient(credentials=RememberedCredentials(found))


class GkeNodePools:
    """The way `node_pool`. `client` makes the API's client at its first use, on the event loop.

    `in_use` tells how many nodes of a pool workers are on, where no plan of late says so (None: nobody knows).
    """

    name = "node_pool"

    def __init__(
        self,
        client: Callable[[], container_v1.ClusterManagerAsyncClient] = _google_client,
        *,
        in_use: Callable[[str], Awaitable[int | None]] | None = None,
    ) -> None:
        self._make, self._in_use = client, in_use
        self._client: container_v1.ClusterManagerAsyncClient | None = None
        self._operations: dict[str, _Operation] = {}
        self._busy: dict[str, tuple[int | None, float]] = {}
        """By pool: nodes in use, and when the plan said so."""

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        gke = _gke(pool)
        async with _wrapped(gke.path):
            found = await self._api().get_node_pool(name=gke.path, retry=None, timeout=10.0)
        scaling, zones = found.autoscaling, max(1, len(found.locations))
        if gke.autoscaled and not scaling.enabled:
            raise Rejected(f"{gke.path}: its autoscaler is off: nobody would act on a least size (warm.gke.autoscaled)")
        if not gke.autoscaled and scaling.enabled:
            words = "the cluster autoscaler owns its size, and takes nodes away that it does not need"
            raise Rejected(f"{gke.path}: {words} (warm.gke.autoscaled: true raises its least size)")
        waits, refusal = await self._waits(pool, gke, now_s)
        words, no_stock = _conditions(found)
        level, most = _level(found, zones)
        busy = None if gke.autoscaled else await self._busy_nodes(pool, plan, now_s)
        unknown = "nobody can say whether " if busy is None else ""
        size = "" if gke.autoscaled else f"size {level}; it is not reduced while {unknown}workers run on the pool"
        said = "; ".join(part for part in (waits, words, size) if part)
        keeps = not gke.autoscaled and not waits and busy != 0
        return Held(level, said, _Seen(found, zones, most, waits, busy), refusal or no_stock, keeps)

    async def _busy_nodes(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> int | None:
        if plan is not None:
            self._busy[pool.name] = (plan.busy_nodes, now_s)
        busy, seen_at_s = self._busy.get(pool.name, (None, -math.inf))
        if now_s - seen_at_s <= BUSY_KNOWN_S:
            return busy
        return None if self._in_use is None else await self._in_use(pool.name)

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        request = self._request(_gke(pool), held, level)
        return msgspec.json.encode(request, order="sorted").decode() if request else ""

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        gke = _gke(pool)
        request = self._request(gke, held, level)
        assert request is not None
        api = self._api()
        async with _wrapped(gke.path):
            send = api.set_node_pool_autoscaling if gke.autoscaled else api.set_node_pool_size
            operation = await send(request=request, retry=None, timeout=allowed_s())
        self._operations[pool.name] = _Operation(operation.name, now_s)
        what = "least size" if gke.autoscaled else "size"
        return f"{what} {held.level} -> {self._reachable(held, level)}: operation {operation.name}"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.transport.close()  # type: ignore[no-untyped-call]
            self._client = None

    # ------------------------------------------------------------ what to send

    def _request(self, gke: GkePool, held: Held, level: int) -> dict[str, Any] | None:
        """The body of the call; None when there is nothing to send, or not now."""
        seen: _Seen = held.seen
        level = self._reachable(held, level)
        if level == held.level or seen.waits:
            return None
        per_zone = math.ceil(level / seen.zones)
        if not gke.autoscaled:
            # Google chooses which nodes go: none are given up while workers run on any of them.
            if level < held.level and seen.busy != 0:
                return None
            return {"name": gke.path, "node_count": per_zone}
        scaling = type(seen.pool.autoscaling).to_dict(seen.pool.autoscaling, use_integers_for_enums=False)
        scaling = {key: value for key, value in scaling.items() if value not in (0, "", "LOCATION_POLICY_UNSPECIFIED")}
        if _per_zone(seen.pool.autoscaling):
            scaling["min_node_count"] = per_zone
        else:
            scaling["total_min_node_count"] = level
        return {"name": gke.path, "autoscaling": scaling}

    @staticmethod
    def _reachable(held: Held, level: int) -> int:
        """The level within the pool's own maximum, in steps of its zones where it is bounded per zone."""
        seen: _Seen = held.seen
        level = level if seen.most is None else min(level, seen.most)
        stepwise = not seen.pool.autoscaling.enabled or _per_zone(seen.pool.autoscaling)
        return math.ceil(level / seen.zones) * seen.zones if stepwise else level

    # ------------------------------------------------------------ operations

    async def _waits(self, pool: WarmPool, gke: GkePool, now_s: float) -> tuple[str, tuple[str, str] | None]:
        """Why no other change may be sent now, in words; and refused capacity, if that was why one failed."""
        operation = self._operations.get(pool.name)
        if operation is None:
            return "", None
        if operation.failed_at_s is None:
            name = f"projects/{gke.project}/locations/{gke.location}/operations/{operation.name}"
            async with _wrapped(name):
                found = await self._api().get_operation(name=name, retry=None, timeout=10.0)
            lasts_s = now_s - operation.begun_at_s
            if found.status != container_v1.Operation.Status.DONE:
                late = f", longer than {OPERATION_WITHIN_S / 60:.0f} minutes" if lasts_s > OPERATION_WITHIN_S else ""
                return f"operation {operation.name} is under way for {lasts_s:.0f} s{late}", None
            message = " ".join(blank(found.error.message or found.status_message).split())
            if not message:
                del self._operations[pool.name]
                return "", None
            operation.failed_at_s, operation.words = now_s, message
        left_s = operation.failed_at_s + AGAIN_AFTER_S - now_s
        if left_s <= 0:
            del self._operations[pool.name]
            return "", None
        kind = kind_of(operation.words)
        words = f"operation {operation.name} failed ({kind}): {operation.words}; tried again in {left_s:.0f} s"
        return words, (kind, operation.words)

    def _api(self) -> container_v1.ClusterManagerAsyncClient:
        if self._client is None:
            try:
                self._client = self._make()
            except GoogleAuthError as error:
                raise Forbidden(f"{_IDENTITY} ({type(error).__name__})") from None
        return self._client


def kind_of(message: str) -> str:
    """What an operation's or a pool's complaint is about: `quota`, `stockout` or `other`."""
    lowered = message.lower()
    if "quota" in lowered:
        return "quota"
    stock = ("stockout", "resource_pool_exhausted", "does not have enough resources", "out of resources")
    return "stockout" if any(word in lowered for word in stock) else "other"


def _gke(pool: WarmPool) -> GkePool:
    if pool.gke is None:
        raise Rejected(f"pool {pool.name}: node_pools[].warm.gke is missing")
    return pool.gke


def _per_zone(scaling: Any) -> bool:
    return bool(scaling.max_node_count) and not scaling.total_max_node_count


def _level(found: Any, zones: int) -> tuple[int, int | None]:
    """The size in force, or the least size, of the whole pool; and its maximum."""
    scaling = found.autoscaling
    if not scaling.enabled:
        return found.initial_node_count * zones, None
    if _per_zone(scaling):
        return scaling.min_node_count * zones, scaling.max_node_count * zones
    return scaling.total_min_node_count, scaling.total_max_node_count or None


def _conditions(found: Any) -> tuple[str, tuple[str, str] | None]:
    """What Google says of the pool: no stock, no quota."""
    words, refusal = [], None
    for condition in found.conditions:
        code = container_v1.StatusCondition.Code(condition.code).name
        said = " ".join(f"{code} {blank(condition.message)}".split())
        words.append(said)
        if kind_of(said) != "other" and refusal is None:
            refusal = (kind_of(said), said)
    return "; ".join(words), refusal


@contextlib.asynccontextmanager
async def _wrapped(what: str) -> AsyncIterator[None]:
    """Google's exceptions as ours, in one line."""
    try:
        yield
    except GoogleAuthError as error:
        raise Forbidden(f"{_IDENTITY} ({type(error).__name__})") from None
    except google_errors.GoogleAPICallError as error:
        raise _error(what, error) from None
    except google_errors.RetryError as error:
        raise Unavailable(f"{what}: {' '.join(blank(str(error)).split())}") from None


def _error(what: str, error: google_errors.GoogleAPICallError) -> ActuatorError:
    said = f"{what}: {' '.join(blank(str(error.message)).split())[:300]}"
    kinds: tuple[tuple[tuple[type[Exception], ...], type[ActuatorError]], ...] = (
        ((google_errors.NotFound,), NotFound),
        ((google_errors.PermissionDenied, google_errors.Forbidden, google_errors.Unauthorized), Forbidden),
        ((google_errors.TooManyRequests,), Throttled),
        ((google_errors.FailedPrecondition, google_errors.Conflict), Conflict),
        ((google_errors.BadRequest,), Rejected),
    )
    return next((ours(said) for theirs, ours in kinds if isinstance(error, theirs)), Unavailable(said))


def way(pools: Sequence[WarmPool], around: Surroundings) -> GkeNodePools:
    """For the pools that are warmed so."""
    return GkeNodePools(in_use=around.in_use)
