"""The steps that a law is fitted to, within an engine's limits: batches, prompts, and prompts beside batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.experiments.calibration.fit import Steps

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CONTEXTS = (256, 1024, 4096, 16384)
_PROMPTS = (16, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)
_CACHED = (0, 1024, 4096)
_PACKED = (2, 4, 8, 16)
_PACKED_TOKENS = 512
_MIXED_CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """`decodes` sequences at a mean `context`; `prompts` prompts of `tokens` each, after `cached` tokens."""

    decodes: int
    context: int
    prompts: int = 0
    tokens: int = 0
    cached: int = 0

    @property
    def prefill(self) -> int:
        return self.prompts * self.tokens

    @property
    def kv(self) -> int:
        """Tokens of KV that decodes attend to."""
        return self.decodes * self.context

    @property
    def qk(self) -> float:
        """Attention work of the prompts, tokens^2."""
        return self.prefill * (self.cached + self.tokens / 2)


def steps_of(max_num_seqs: int, max_num_batched_tokens: int, kv_tokens: int, max_model_len: int) -> list[Step]:
    """What fits in the limits; the largest batch and the largest prompt are among them."""
    batches = _up_to(_BATCHES, max_num_seqs)
    prompts = _up_to(_PROMPTS, min(max_num_batched_tokens, max_model_len))
    contexts = [c for c in _CONTEXTS if c <= max_model_len] or [max_model_len]
    found = [Step(b, c) for b in batches for c in contexts]
    found += [Step(0, 0, 1, p, c) for p in prompts for c in _CACHED if p + c <= max_model_len]
    found += [Step(0, 0, k, _PACKED_TOKENS) for k in _PACKED]
    found += [Step(b, min(_MIXED_CONTEXT, max_model_len), 1, p) for p in prompts for b in batches[::2]]
    return [
        s for s in found if s.kv + s.prefill + s.prompts * s.cached <= kv_tokens and s.prefill <= max_num_batched_tokens
    ]


def _up_to(sizes: tuple[int, ...], most: int) -> list[int]:
    return [*(size for size in sizes if size < most), most]


def timed(steps: list[Step], seconds: Callable[[Step], float]) -> Steps:
    """The steps with their times, as the fit takes them."""
    rows = [(s.decodes, s.kv, s.prefill, s.qk, seconds(s)) for s in steps]
    return Steps(*np.array(rows, dtype=float).T)
