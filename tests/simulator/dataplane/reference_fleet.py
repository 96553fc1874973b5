"""Ray Serve's router over reference engines, one event at a time: the fleet that the fast data plane must equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.capacity.profile import EngineProfile
from tests.simulator.engine.reference_engine import ReferenceEngine, Request


def scramble(value: int) -> int:
    value = (value ^ value >> 16) * 0x21F0AAAD % 2**32
    value = (value ^ value >> 15) * 0x735A2D97 % 2**32
    return value ^ value >> 15


@dataclass
class Replica:
    number: int
    engine: ReferenceEngine
    requests: list[Request] = field(default_factory=list)
    draining: bool = False
    emptied_at_s: float = 0.0


@dataclass(frozen=True)
class Control:
    """`add`, `drain` or `kill` a replica at a time."""

    at_s: float
    what: str
    replica: int


class ReferenceFleet:
    """Run it whole: arrivals and control events are given at once."""

    def __init__(
        self,
        profile: EngineProfile,
        *,
        max_ongoing_requests: int,
        request_timeout_s: float | None,
        seed: int,
        max_queued_requests: int = -1,
    ) -> None:
        self.profile = profile
        self.max_ongoing = max_ongoing_requests
        self.max_queued = max_queued_requests
        self.timeout_s = math.inf if request_timeout_s is None else request_timeout_s
        self.seed = (seed * 0x9E3779B1 + 0x5851F42D) % 2**32
        limits = profile.limits
        self.longest = min(limits.max_model_len, limits.kv_tokens // limits.block_size * limits.block_size)
        self.replicas: dict[int, Replica] = {}
        self.gone: list[Replica] = []
        self.queue: list[tuple[int, Request]] = []
        self.drained_at_s: dict[int, float] = {}
        self.requests: list[Request] = []

    def run(self, requests: list[Request], controls: list[Control], until_s: float) -> None:
        """May be called again with no requests or controls to go on."""
        self.requests += requests
        arrivals, controls = list(enumerate(requests)), sorted(controls, key=lambda c: c.at_s)
        while True:
            times = [r.engine.end_s for r in self.replicas.values() if r.engine.current is not None]
            times += [r.arrival_s + self.timeout_s for r in self._inside()]
            times += [arrivals[0][1].arrival_s] if arrivals else []
            times += [controls[0].at_s] if controls else []
            now_s = min(times, default=math.inf)
            if now_s > until_s:
                return
            for replica in self.replicas.values():
                if replica.engine.current is not None and replica.engine.end_s == now_s:
                    for request in replica.engine.end():
                        if request.status == "inside":
                            self._end(request, "ok", now_s)
            for request in [r for r in self._inside() if r.arrival_s + self.timeout_s == now_s]:
                self._time_out(request, now_s)
            self._drain_done()
            self._serve_queue(now_s)
            while arrivals and arrivals[0][1].arrival_s == now_s:
                self._arrive(*arrivals.pop(0), now_s)
            while controls and controls[0].at_s == now_s:
                self._control(controls.pop(0))
                self._serve_queue(now_s)
            for replica in self.replicas.values():
                replica.engine.begin(now_s)

    def _inside(self) -> list[Request]:
        return [r for _, r in self.queue] + [r for replica in self.replicas.values() for r in replica.requests]

    def _end(self, request: Request, status: str, now_s: float) -> None:
        request.status, request.end_s, request.emitted_at_end = status, now_s, request.emitted
        if request.replica is not None and request.replica in self.replicas:
            replica = self.replicas[request.replica]
            if request in replica.requests:
                replica.requests.remove(request)
                replica.emptied_at_s = now_s

    def _time_out(self, request: Request, now_s: float) -> None:
        self.queue = [(i, r) for i, r in self.queue if r is not request]
        self._end(request, "timed_out", now_s)
        if request.replica is None:
            return
        engine = self.replicas[request.replica].engine
        if request in engine.waiting:
            engine.waiting.remove(request)
        else:
            engine.aborted.add(request.id)

    def _drain_done(self) -> None:
        for number, replica in list(self.replicas.items()):
            if replica.draining and not replica.requests:
                self.drained_at_s[number] = replica.emptied_at_s
                self.gone.append(self.replicas.pop(number))

    def _control(self, control: Control) -> None:
        if control.what == "add":
            self.replicas[control.replica] = Replica(control.replica, ReferenceEngine(self.profile))
        elif control.replica in self.replicas:
            replica = self.replicas[control.replica]
            if control.what == "drain":
                replica.draining = True
                if not replica.requests:
                    replica.emptied_at_s = control.at_s
                self._drain_done()
            else:
                for request in list(replica.requests):
                    self._end(request, "failed", control.at_s)
                self.gone.append(self.replicas.pop(control.replica))

    def _choose(self, sequence: int) -> Replica | None:
        able = [r for r in self.replicas.values() if not r.draining and len(r.requests) < self.max_ongoing]
        able.sort(key=lambda r: r.number)
        if len(able) < 2:
            return able[0] if able else None
        draw = scramble((self.seed + sequence) % 2**32)
        one = draw * len(able) >> 32
        other = scramble(draw ^ self.seed) * (len(able) - 1) >> 32
        a, b = able[one], able[other + (other >= one)]
        return b if len(b.requests) < len(a.requests) else a

    def _arrive(self, sequence: int, request: Request, now_s: float) -> None:
        request.output = max(1, min(request.output, self.longest - request.prompt))
        replica = self._choose(sequence) if not self.queue else None
        if replica is not None:
            self._send(replica, request, now_s)
        elif 0 <= self.max_queued <= len(self.queue):
            self._end(request, "failed", now_s)
        else:
            self.queue.append((sequence, request))

    def _serve_queue(self, now_s: float) -> None:
        while self.queue and (replica := self._choose(self.queue[0][0])) is not None:
            self._send(replica, self.queue.pop(0)[1], now_s)

    def _send(self, replica: Replica, request: Request, now_s: float) -> None:
        request.sent_s, request.replica = now_s, replica.number
        if request.prompt >= self.longest:
            self._end(request, "failed", now_s)
            return
        replica.requests.append(request)
        replica.engine.waiting.append(request)
