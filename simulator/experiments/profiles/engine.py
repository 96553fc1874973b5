"""What a profile is made for: a model on GPUs, with vLLM's own limits. Not for whether that can be (checks.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.experiments.profiles.gpus import Gpu
from simulator.experiments.profiles.models import Model


@dataclass(frozen=True, slots=True)
class Engine:
    """What a profile is made for: a model in a weights' format on GPUs, with vLLM's own limits.

    `expert_parallel`: experts are spread over the tensor-parallel ranks whole, not each of them cut.
    """

    model: Model
    gpu: Gpu
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    weights: str = "bf16"
    kv: str = "bf16"
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    gpu_memory_utilization: float = 0.9

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def stage_layers(self) -> int:
        """Layers of the longest pipeline stage."""
        return math.ceil(self.model.layers / self.pipeline_parallel)

    @property
    def kv_heads(self) -> int:
        """KV heads on one GPU: with more ranks than heads each is held more than once."""
        return max(self.model.kv_heads // self.tensor_parallel, 1)
