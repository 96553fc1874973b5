"""Every name that is said to be current is declared by the oldest and by the newest supported Ray and vLLM.

tests/samples/metric_names.json holds what their packages declare (name: kind), read from the call that makes each
metric. Ray writes them with the prefix `ray_`, a counter with `_total`, a histogram as `_bucket`, `_sum`, `_count`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from autoscaler.diagnosis.supported import TABLE, dotted
from autoscaler.sources import names

DECLARED = json.loads((Path(__file__).resolve().parents[2] / "samples" / "metric_names.json").read_text())
ENDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum")}
VERSIONS = [(one.name, dotted(number)) for one in TABLE for number in (one.oldest, one.newest)]
CURRENT = {
    "Ray": [value for name, value in vars(names).items() if name.startswith("SERVE_")],
    "vLLM": [value for name, value in vars(names).items() if name.startswith("VLLM_")],
}


def on_the_page(declared: dict[str, str]) -> set[str]:
    return {f"ray_{re.sub('[^a-zA-Z0-9_]', '_', name)}{end}" for name, kind in declared.items() for end in ENDS[kind]}


@pytest.mark.parametrize(("product", "version"), VERSIONS)
def test_every_current_name_is_declared_by_the_oldest_and_the_newest(product: str, version: str) -> None:
    assert set(CURRENT[product]) - on_the_page(DECLARED[product][version]) == set()


@pytest.mark.parametrize(("product", "version"), VERSIONS)
def test_a_name_has_the_kind_that_its_role_says(product: str, version: str) -> None:
    for name, kind in DECLARED[product][version].items():
        for end in ENDS[kind]:
            role = names.ROLES.get(f"ray_{name}{end}")
            if role is not None and end != "_sum":
                assert role.kind == kind, name
