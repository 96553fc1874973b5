"""GPU kinds that profiles can be made for: memory, bandwidth, FLOPs, formats, price (gpus.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autoscaler.common.errors import InputError
from policies.options import nearest
from policies.yaml_core import load_yaml

_TABLE = Path(__file__).with_name("gpus.yaml")
NODE_GPUS = 8
"""GPUs that share a fast link: tensor parallelism stays among them."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What GPU operations reach, of the datasheet: shares of bandwidth (weights, KV) and FLOPs (products, attention).

    `layer_s`: seconds of a layer that neither explains; `error_fraction`: mean of |roofline / tables - 1| over the
    cells that `of` says, by kind of step.
    """

    weights: float
    kv: float
    products: float
    attention: float
    layer_s: float
    error_fraction: Mapping[str, float]
    of: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind. Bandwidths in bytes/s (`link`: to another GPU of the node, one way), `flops` dense, by arithmetic."""

    name: str
    kind: str
    usable_gib: float
    bandwidth: float
    link: float
    flops: Mapping[str, float]
    formats: tuple[str, ...]
    kv: tuple[str, ...]
    price_usd_per_gpu_hour: float
    tables: str | None
    batched_tokens: int
    efficiency: Efficiency


@cache
def known_gpus() -> Mapping[str, Gpu]:
    """Every kind of the table, by its short name."""
    found = {}
    for name, entry in load_yaml(_TABLE.read_text(encoding="utf-8")).items():
        rest = {key: value for key, value in entry.items() if key not in ("formats", "kv", "efficiency")}
        formats, kv = tuple(entry["formats"]), tuple(entry["kv"])
        found[name] = Gpu(name=name, formats=formats, kv=kv, efficiency=Efficiency(**entry["efficiency"]), **rest)
    return found


def find_gpu(said: str) -> Gpu:
    """By the short name (`h100`) or the kind (`nvidia-h100-80gb`). Errors: InputError with what there is."""
    for gpu in known_gpus().values():
        if said.lower() in (gpu.name, gpu.kind):
            return gpu
    known = [*known_gpus(), *(gpu.kind for gpu in known_gpus().values())]
    raise InputError(f"--gpu: {said!r}; allowed: {', '.join(known_gpus())}{nearest(said.lower(), known)}")
