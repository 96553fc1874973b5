"""The request-level data plane of one deployment: vLLM V1 engines behind Ray Serve's router, in simulated time.

`DataPlane` is what the control plane and the wall-clock emulation drive: feed arrivals, add and remove replicas,
advance time, read telemetry, collect finished requests. It decides nothing about replicas, and it knows neither nodes
nor start-up. Deployments do not share replicas, so each has a data plane of its own.

Time is in seconds of the caller's clock and never goes back. At one instant steps end first, then requests time out and
arrive, then engines schedule. Results depend neither on how often `advance` is called nor on the chunks of `feed`.
The kernels (simulator/engine, router.py) are imported when the first data plane is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.capacity.profile import EngineProfile
from simulator.dataplane.records import (
    CompletedRequests,
    Counters,
    Gauges,
    Status,
    completed_requests,
    unfinished_requests,
)
from simulator.dataplane.records import counters as read_counters
from simulator.dataplane.records import gauges as read_gauges
from simulator.engine import layout as at

__all__ = ["CompletedRequests", "Counters", "DataPlane", "Gauges", "Status"]


class DataPlane:
    """Engines and router of one deployment. Not thread-safe."""

    def __init__(
        self,
        profile: EngineProfile,
        *,
        max_ongoing_requests: int,
        request_timeout_s: float | None,
        seed: int,
        max_queued_requests: int = -1,
    ) -> None:
        """`max_queued_requests`: -1 is no limit. Errors: PolicyError for a profile that vLLM would not start with."""
        from simulator.dataplane.kernels import kernels
        from simulator.engine.show import SHOWN_WORDS

        if max_ongoing_requests < 1:
            raise ValueError(f"max_ongoing_requests: {max_ongoing_requests}; allowed: a whole number >= 1")
        if request_timeout_s is not None and not request_timeout_s > 0:
            raise ValueError(f"request_timeout_s: {request_timeout_s}; allowed: a number > 0, or None for no limit")
        self._kernels = kernels()
        self._memory = at.Memory(profile)
        self._api_s = profile.api_s
        z, x = self._memory.z, self._memory.x
        z[at.MAX_ONGOING], z[at.MAX_QUEUED] = max_ongoing_requests, max_queued_requests
        z[at.SEED] = (seed * 0x9E3779B1 + 0x5851F42D) & 0xFFFFFFFF
        x[at.TIMEOUT] = math.inf if request_timeout_s is None else request_timeout_s
        x[at.NOW] = -math.inf
        self._times: NDArray[np.float64] = np.empty(0)
        self._inputs: NDArray[np.int64] = np.empty((0, 4), np.int64)
        self._next_id = 0
        self._rows: dict[int, int] = {}
        self._drained_at_s: dict[int, float] = {}
        self._draining: set[int] = set()
        self._records: list[NDArray[np.int64]] = []
        self._gone = np.zeros((0, SHOWN_WORDS), np.int64)
        self._shown = np.zeros((0, SHOWN_WORDS), np.int64)

    # --- arrivals ---------------------------------------------------------------------------------------------------

    def feed(
        self,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        cached_prompt_tokens: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> None:
        """Append requests, sorted by arrival and not before the last `advance`; tokens >= 1 (cached >= 0).

        `cached_prompt_tokens` are found in the prefix cache (whole blocks of them, and never the whole prompt). Ids are
        the running number where none are given. An output that would exceed the engine's longest request is cut there,
        as vLLM does. Errors: ValueError.
        """
        times = np.ascontiguousarray(arrival_s, np.float64).reshape(-1)
        count = len(times)
        zeros, numbers = np.zeros(count, np.int64), np.arange(self._next_id, self._next_id + count)
        columns = (
            prompt_tokens,
            output_tokens,
            zeros if cached_prompt_tokens is None else cached_prompt_tokens,
            numbers if ids is None else ids,
        )
        inputs = np.stack([np.broadcast_to(np.asarray(c, np.int64), (count,)) for c in columns], axis=1)
        if count == 0:
            return
        after = max(float(self._memory.x[at.NOW]), float(self._times[-1]) if len(self._times) else -math.inf)
        if not np.all(np.isfinite(times)) or np.any(np.diff(times) < 0) or times[0] < after:
            raise ValueError(f"arrival_s: must be finite, ascending and not before {after:g}")
        if inputs[:, :2].min() < 1 or inputs[:, 2].min() < 0:
            raise ValueError("prompt_tokens and output_tokens must be >= 1, cached_prompt_tokens >= 0")
        self._next_id += count
        done, z = int(self._memory.z[at.NEXT_INPUT]), self._memory.z
        self._times = np.concatenate((self._times[done:], times))
        self._inputs = np.concatenate((self._inputs[done:], inputs))
        z[at.NEXT_INPUT], z[at.INPUTS] = 0, len(self._times)

    # --- replicas ---------------------------------------------------------------------------------------------------

    def add_replica(self, replica: int, now_s: float) -> None:
        """RUNNING and routable from now on; requests that wait at the handle go to it. Errors: ValueError."""
        if replica in self._rows:
            raise ValueError(f"replica {replica} is already there")
        self.advance(now_s)
        rows = self._memory.rows
        unused = np.flatnonzero(rows[:, at.LIVE] == at.UNUSED)
        if len(unused) == 0:
            self._memory.more_rows()
            rows = self._memory.rows
            unused = np.flatnonzero(rows[:, at.LIVE] == at.UNUSED)
        row, z = int(unused[0]), self._memory.z
        rows[row] = 0
        real = rows[row].view(np.float64)
        rows[row, at.LIVE], rows[row, at.REPLICA] = at.ROUTABLE, replica
        rows[row, at.FREE] = rows[row, at.SHOWN_FREE] = z[at.BLOCKS]
        rows[row, [at.WAIT_HEAD, at.WAIT_TAIL, at.AGE_HEAD, at.AGE_TAIL]] = at.NONE
        rows[row, at.FIRST_END] = at.NEVER
        real[[at.EMPTY_AT, at.SCHEDULE_AT, at.END_AT]] = now_s
        real[at.EVENT_AT] = math.inf
        self._rows[replica] = row
        self._drained_at_s.pop(replica, None)
        self._reroute()
        self.advance(now_s)

    def drain_replica(self, replica: int, now_s: float) -> None:
        """No new requests from now on; it finishes its own. Errors: KeyError."""
        row = self._rows[replica]
        self.advance(now_s)
        if replica not in self._rows:
            return
        line = self._memory.rows[row]
        line[at.LIVE] = at.DRAINING
        if line[at.ONGOING] == 0:
            line.view(np.float64)[at.EMPTY_AT] = now_s
        self._draining.add(replica)
        self._reroute()
        self._retire_drained()

    def kill_replica(self, replica: int, now_s: float) -> None:
        """Grace over, or a crash: its requests fail now, it is gone. A replica that is gone already is left alone."""
        self.advance(now_s)
        row = self._rows.get(replica)
        if row is None:
            return
        self._room_for_records()
        offset = int(self._memory.z[at.ROW0]) + row * int(self._memory.z[at.ROW_WORDS])
        self._kernels.kill(self._memory.z, self._memory.x, offset, now_s)
        self._remove(replica, now_s)

    def cancel(self, request_id: int, now_s: float) -> bool:
        """The client hangs up: the request ends FAILED now. False where no such request is inside."""
        self.advance(now_s)
        slots = self._memory.slots
        found = np.flatnonzero((slots[:, at.ID] == request_id) & self._inside())
        if len(found) == 0:
            return False
        offset = int(self._memory.z[at.SLOT0]) + int(found[0]) * at.SLOT_WORDS
        self._kernels.cancel(self._memory.z, self._memory.x, offset, now_s)
        self.advance(now_s)
        return True

    def _remove(self, replica: int, now_s: float) -> None:
        """Keep the replica's last counters, free its row."""
        shown = self._show(now_s)
        self._gone = np.concatenate((self._gone, shown[shown[:, 0] == replica]))
        self._memory.rows[self._rows.pop(replica), at.LIVE] = at.UNUSED
        self._draining.discard(replica)
        self._reroute()

    def _reroute(self) -> None:
        """Tell the router which rows take requests, by number of their replica."""
        z, rows = self._memory.z, self._memory.rows
        routable = np.flatnonzero(rows[:, at.LIVE] == at.ROUTABLE)
        routable = routable[np.argsort(rows[routable, at.REPLICA])]
        first = int(z[at.ROUTE0])
        z[first : first + len(routable)] = z[at.ROW0] + routable * z[at.ROW_WORDS]
        z[at.ROUTES] = len(routable)

    def _retire_drained(self) -> None:
        """Draining replicas that became empty are gone from that moment on."""
        rows = self._memory.rows
        if rows[[self._rows[replica] for replica in self._draining], at.ONGOING].all():
            return
        for replica in sorted(self._draining):
            line = rows[self._rows[replica]]
            if line[at.ONGOING] == 0:
                empty_at_s = float(line.view(np.float64)[at.EMPTY_AT])
                self._drained_at_s[replica] = empty_at_s
                self._remove(replica, float(self._memory.x[at.NOW]))

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, until_s: float) -> None:
        """Process every arrival, routing and engine step up to `until_s`. Errors: ValueError where time goes back."""
        memory = self._memory
        if not until_s >= memory.x[at.NOW]:
            raise ValueError(f"until_s: {until_s}; time is already {memory.x[at.NOW]:g}")
        while True:
            answer = self._kernels.advance(memory.z, memory.x, self._times, self._inputs, float(until_s))
            if answer == at.DONE_UNTIL:
                break
            if answer == at.NEED_SLOTS:
                memory.more_slots()
            elif answer == at.NEED_RECORD_ROOM:
                self._room_for_records()
            else:
                raise RuntimeError("data plane: an idle engine cannot admit its first waiting request")
        if self._draining:
            self._retire_drained()

    def _room_for_records(self) -> None:
        memory = self._memory
        if memory.z[at.RECORDS] > 0:
            self._records.append(memory.take_records())
        if memory.z[at.ACTIVE] + 2 > memory.z[at.RECORD_ROOM]:
            memory.more_record_room()

    # --- what came out ----------------------------------------------------------------------------------------------

    def completed(self) -> CompletedRequests:
        """Requests that ended since the last call, by the time of their end (then id)."""
        lines = np.concatenate([*self._records, self._memory.take_records()])
        self._records = []
        order = np.lexsort((lines[:, at.R_ID], lines.view(np.float64)[:, at.R_END]))
        return completed_requests(lines[order], self._api_s)

    def unfinished(self) -> CompletedRequests:
        """Requests inside now, by arrival; status UNFINISHED, `e2e_s` and other things not yet known are NaN."""
        return unfinished_requests(self._memory, self._inside(), self._tokens(), self._api_s)

    def _inside(self) -> NDArray[np.bool_]:
        """Which slots hold a request whose client is still there."""
        slots = self._memory.slots
        state = slots[:, at.STATE]
        inside: NDArray[np.bool_] = (state != at.FREED) & (state != at.ABORTED) & (slots[:, at.TIMED_OUT] == 0)
        return inside

    def _tokens(self) -> NDArray[np.int64]:
        memory = self._memory
        tokens = np.zeros(int(memory.z[at.SLOTS]), np.int64)
        self._kernels.tokens(memory.z, memory.x, float(memory.x[at.NOW]), tokens)
        return tokens

    def progress(self, request_id: int) -> int | None:
        """Tokens of a request that the engine has emitted by now; None where no such request is inside."""
        found = np.flatnonzero((self._memory.slots[:, at.ID] == request_id) & self._inside())
        return int(self._tokens()[found[0]]) if len(found) else None

    # --- telemetry --------------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> Sequence[int]:
        """Replicas that are there (routable or draining), ascending."""
        return tuple(sorted(self._rows))

    def ongoing(self, replica: int) -> int:
        """Requests sent to the replica and not finished; 0 for one that is gone."""
        row = self._rows.get(replica)
        return 0 if row is None else int(self._memory.rows[row, at.ONGOING])

    def drained_at_s(self, replica: int) -> float | None:
        """When a draining replica became empty; None while it is not (or was killed)."""
        return self._drained_at_s.get(replica)

    @property
    def queued(self) -> int:
        """Requests at the handle."""
        return int(self._memory.z[at.QUEUED])

    @property
    def memory_bytes(self) -> int:
        """What this data plane holds, ended requests not yet collected and arrivals not yet processed included."""
        held = [self._memory.z, self._times, self._inputs, self._shown, self._gone, *self._records]
        return sum(array.nbytes for array in held)

    def gauges(self, now_s: float) -> Gauges:
        """What engines and router show at `now_s`, which must be the time advanced to. One entry per live replica."""
        return read_gauges(self._show(now_s), self.queued)

    def counters(self) -> Counters:
        """Counters at the time advanced to; one entry per live replica, then those that are gone, with last values."""
        live = self._show(float(self._memory.x[at.NOW]))
        return read_counters(live, self._gone, int(self._memory.z[at.ARRIVALS]))

    @property
    def arrivals(self) -> int:
        """Requests that have arrived at the handle so far."""
        return int(self._memory.z[at.ARRIVALS])

    @property
    def ongoing_everywhere(self) -> int:
        """Requests sent to any replica and not finished."""
        return int(self._memory.rows[list(self._rows.values()), at.ONGOING].sum()) if self._rows else 0

    def shown(self) -> NDArray[np.int64]:
        """Gauges and counters at the time advanced to, a line for each live replica; overwritten by the next look.

        `records` reads them: a look costs little, and what nobody reads is not made.
        """
        return self._show(float(self._memory.x[at.NOW]))

    def shown_last(self, replica: int) -> NDArray[np.int64]:
        """The line of a replica that is gone, as it was at last; its gauges are empty. Errors: KeyError."""
        for line in self._gone:
            if line[0] == replica:
                last: NDArray[np.int64] = line.copy()
                last[2:6] = 0  # the bits of 0.0 are zeros
                return last
        raise KeyError(replica)

    def _show(self, now_s: float) -> NDArray[np.int64]:
        memory = self._memory
        if len(self._shown) < memory.z[at.ROWS]:
            self._shown = np.zeros((int(memory.z[at.ROWS]), self._shown.shape[1]), np.int64)
        count = self._kernels.telemetry(memory.z, memory.x, now_s, self._shown)
        return self._shown[:count]
