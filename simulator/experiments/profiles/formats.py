"""Formats of weights and of the KV cache: bytes a number takes, and what it is multiplied in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """`bytes` of one weight with its share of the scales; `math`: the arithmetic of its products (`flops` of GPUs)."""

    bytes: float
    math: str
    experts_only: bool = False
    """Attention and embeddings stay in 16 bits."""


FORMATS = {
    "bf16": Format(2.0, "bf16"),
    "fp8": Format(1.0, "fp8"),
    "fp8-block": Format(1.0 + 4 / 128**2, "fp8"),  # one 4-byte scale for 128 x 128 weights
    "int8": Format(1.0, "int8"),
    "int4": Format(0.5 + 2 / 128, "bf16"),  # a 2-byte scale for 128 weights (AWQ, GPTQ, w4a16)
    "mxfp4": Format(0.5 + 1 / 32, "bf16", experts_only=True),  # a 1-byte scale for 32 weights
    "nvfp4": Format(0.5 + 1 / 16, "fp4"),  # a 1-byte scale for 16 weights
}
KV_BYTES = {"bf16": 2, "fp8": 1}
WIDE_BYTES = 2
"""Of what is never quantised: embeddings, the head, norms, routers."""
