"""A vLLM V1 engine in plain Python, step by step, block by block: what the fast engine is measured against.

Straight from the scheduler's pseudo-code, with none of the fast engine's shortcuts: every block has an identity and a
hash, the free list is a list, every token is a step. It is slow and lives in tests only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from policies.capacity.profile import EngineProfile


@dataclass(eq=False)
class Request:
    """One request and all that ever happened to it."""

    id: int
    arrival_s: float
    prompt: int
    output: int
    cached: int = 0
    sent_s: float | None = None
    scheduled_s: float | None = None
    first_token_s: float | None = None
    end_s: float | None = None
    status: str = "inside"
    replica: int | None = None
    emitted: int = 0
    emitted_at_end: int = 0
    last_token_s: float = 0.0
    preemptions: int = 0
    computed: int = 0
    placeholders: int = 0
    prefill_target: int = 0
    high_water: int = 0
    blocks: list[int] = field(default_factory=list)

    @property
    def known(self) -> int:
        return self.prompt + self.emitted


def _copied(request: Request) -> Request:
    other = copy.copy(request)
    other.blocks = list(request.blocks)
    return other


class Pool:
    """vLLM's block pool: a free list, and which blocks the prefix cache can find."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = size
        self.total = blocks
        self.free = list(range(blocks))
        self.hash_of: dict[int, tuple[int, int]] = {}
        self.block_with: dict[tuple[int, int], int] = {}

    def pop(self) -> int:
        block = self.free.pop(0)
        if block in self.hash_of:
            del self.block_with[self.hash_of.pop(block)]
        return block

    def cache(self, request: Request, tokens: int) -> None:
        """The full blocks of the request's first `tokens` tokens get their hashes."""
        for index in range(tokens // self.size):
            block = request.blocks[index]
            if block not in self.hash_of:
                assert (request.id, index) not in self.block_with
                self.hash_of[block] = (request.id, index)
                self.block_with[request.id, index] = block

    def release(self, request: Request) -> None:
        for block in reversed(request.blocks):
            assert block not in self.free
            if block in self.hash_of:
                self.free.append(block)
            else:
                self.free.insert(0, block)
        request.blocks = []

    def found(self, request: Request) -> list[int]:
        """The request's own first blocks that are still there."""
        blocks: list[int] = []
        while (request.id, len(blocks)) in self.block_with:
            blocks.append(self.block_with[request.id, len(blocks)])
        return blocks

    def needed(self, tokens: int) -> int:
        return -(-tokens // self.size)


@dataclass
class Batch:
    """One scheduled step."""

    scheduled: list[tuple[Request, int, bool]] = field(default_factory=list)
    """Request, tokens, whether a token is sampled."""
    decodes: int = 0
    kv_tokens: int = 0
    prefill: int = 0
    prefill_qk: float = 0.0
    composition: tuple[int, int, int, int] = (0, 0, 0, 0)
    """As vLLM logs it: context requests, context tokens, generation requests, generation tokens."""


class ReferenceEngine:
    """One engine. The caller owns time: `end` at `end_s`, then what else happens, then `begin`."""

    def __init__(self, profile: EngineProfile, step_s: Callable[[Batch], float] | None = None) -> None:
        limits = profile.limits
        self.profile = profile
        self.step_s = step_s or (lambda b: profile.step_s(b.decodes, b.kv_tokens, b.prefill, b.prefill_qk))
        self.pool = Pool(limits.kv_tokens // limits.block_size, limits.block_size)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.aborted: set[int] = set()
        self.current: Batch | None = None
        self.following: Batch | None = None
        self.ahead = False
        self.start_s = self.end_s = 0.0
        self.preemptions = 0
        self.recomputed = 0
        self.log: list[Batch] = []
        self.shown = (0, 0, self.pool.total)
        self.busy_s = 0.0
        self.tokens = self.prompt_tokens = self.finished = 0
        self.gaps_s: list[float] = []
        self.ttfts_s: list[float] = []

    # --- time -------------------------------------------------------------------------------------------------------

    def end(self) -> list[Request]:
        """The step under way is over (at `end_s`); requests that finished with it."""
        assert self.current is not None
        finished = self._update(self.current, self.end_s)
        seen = sum(r.sent_s is not None and r.sent_s <= self.start_s for r in self.waiting)
        self.shown = (len(self.running), seen, len(self.pool.free))
        self.busy_s += self.end_s - self.start_s
        self.current, self.following = self.following, None
        self.ahead = False
        if self.current is not None:
            self._start(self.current, self.end_s)
        return finished

    def begin(self, now_s: float) -> None:
        """Schedule whatever vLLM would schedule now."""
        if self.current is None:
            batch = self._schedule_after_aborts(now_s)
            if not batch.scheduled and self.waiting and not self.running:
                batch = self._schedule_after_aborts(now_s)
            if not batch.scheduled:
                self.shown = (0, 0, len(self.pool.free))
                return
            self.current = batch
            self._start(batch, now_s)
        if self.profile.scheduling.asynchronous and not self.ahead:
            following = self._schedule_after_aborts(now_s)
            self.following = following if following.scheduled else None
            self.ahead = True

    def _start(self, batch: Batch, now_s: float) -> None:
        self.start_s, self.end_s = now_s, now_s + self.step_s(batch)
        self.log.append(batch)

    def clone(self) -> ReferenceEngine:
        """A copy that may go another way."""
        other = copy.copy(self)
        other.pool = copy.copy(self.pool)
        other.pool.free = list(self.pool.free)
        other.pool.hash_of, other.pool.block_with = dict(self.pool.hash_of), dict(self.pool.block_with)
        other.waiting, other.running = ([_copied(r) for r in queue] for queue in (self.waiting, self.running))
        other.aborted, other.log = set(self.aborted), []
        return other

    # --- schedule() -------------------------------------------------------------------------------------------------

    def _schedule_after_aborts(self, now_s: float) -> Batch:
        for request in [r for r in self.running if r.id in self.aborted]:
            self.running.remove(request)
            self.pool.release(request)
        self.aborted.clear()
        return self._schedule(now_s)

    def _schedule(self, now_s: float) -> Batch:
        limits, scheduling = self.profile.limits, self.profile.scheduling
        batch, budget, preempted = Batch(), limits.max_num_batched_tokens, False
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            tokens = request.known + request.placeholders - request.computed
            if request.placeholders > 0 and request.emitted + request.placeholders >= request.output:
                index += 1
                continue
            tokens = min(tokens, budget)
            gone = False
            while not self._allocate(request, tokens):
                preempted = True
                victim = self.running.pop()
                self._preempt(victim)
                if victim is request:
                    gone = True
                    break
            if gone:
                break
            self._add(batch, request, tokens)
            budget -= tokens
            index += 1
        while not preempted and self.waiting and budget > 0 and len(self.running) < limits.max_num_seqs:
            request = self.waiting[0]
            own = self.pool.found(request)
            cap = (request.known - 1) // self.pool.size
            assert len(own) <= cap
            hit = min(max(len(own), min(request.cached, request.prompt) // self.pool.size), cap)
            tokens = request.known - hit * self.pool.size
            if tokens > budget and not scheduling.chunked_prefill:
                break
            tokens = min(tokens, budget)
            gate = request.known if scheduling.reserve_full_prompt else hit * self.pool.size + tokens
            if self.pool.needed(gate) > len(self.pool.free):
                break
            self.waiting.pop(0)
            for block in own:
                self.pool.free.remove(block)
            request.blocks = own
            request.blocks += [self.pool.pop() for _ in range(hit - len(own))]
            request.computed = hit * self.pool.size
            request.prefill_target = request.known
            if request.scheduled_s is None:
                request.scheduled_s = now_s
            assert self._allocate(request, tokens)
            self.running.append(request)
            self._add(batch, request, tokens)
            budget -= tokens
        return batch

    def _allocate(self, request: Request, tokens: int) -> bool:
        missing = self.pool.needed(request.computed + tokens) - len(request.blocks)
        if missing > len(self.pool.free):
            return False
        request.blocks += [self.pool.pop() for _ in range(missing)]
        self.pool.cache(request, min(request.computed + tokens, request.known))
        return True

    def _add(self, batch: Batch, request: Request, tokens: int) -> None:
        before = request.computed
        ctx_reqs, ctx_tokens, gen_reqs, gen_tokens = batch.composition
        if request.emitted > 0 or before >= request.prefill_target:
            batch.composition = (ctx_reqs, ctx_tokens, gen_reqs + 1, gen_tokens + tokens)
        else:
            batch.composition = (ctx_reqs + 1, ctx_tokens + tokens, gen_reqs, gen_tokens)
        if before >= request.prefill_target:
            assert tokens == 1
            batch.decodes += 1
            batch.kv_tokens += before + 1
        else:
            batch.prefill += tokens
            batch.prefill_qk += tokens * (before + tokens / 2)
            self.recomputed += max(0, min(request.high_water, before + tokens) - before)
        request.computed += tokens
        sampled = request.computed == request.known + request.placeholders
        if sampled and self.profile.scheduling.asynchronous:
            request.placeholders += 1
        batch.scheduled.append((request, tokens, sampled))

    def _preempt(self, request: Request) -> None:
        request.high_water = max(request.high_water, request.computed)
        self.pool.release(request)
        request.computed = request.placeholders = 0
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.insert(0, request)

    # --- update_from_output() ---------------------------------------------------------------------------------------

    def _update(self, batch: Batch, now_s: float) -> list[Request]:
        finished = []
        for request, _, sampled in batch.scheduled:
            inside = request in self.running or request in self.waiting
            if not sampled or not inside:
                continue
            request.emitted += 1
            self.tokens += 1
            if request.emitted == 1:
                self.prompt_tokens += request.prompt
                self.ttfts_s.append(now_s - (request.sent_s or 0.0) + self.profile.api_s)
            else:
                self.gaps_s.append(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.placeholders > 0:
                request.placeholders -= 1
            if request.first_token_s is None and request.status == "inside":
                request.first_token_s = now_s
            if self.profile.scheduling.asynchronous and request in self.running:
                self.pool.cache(request, request.computed - request.placeholders)
            if request.emitted == request.output:
                if request in self.running:
                    self.running.remove(request)
                else:
                    self.waiting.remove(request)
                self.pool.release(request)
                self.aborted.discard(request.id)
                finished.append(request)
        return finished
