"""A missing library is named with what to type, and what is typed works: leadtime is installed from its checkout."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from autoscaler.actuators.prewarm import Surroundings
from autoscaler.api.telemetry import new_telemetry
from autoscaler.common.errors import ConfigError, LeadtimeError
from autoscaler.common.extras import install
from autoscaler.core.types.pools import WAYS, WarmPool
from autoscaler.settings import load_config
from autoscaler.settings.settings import SOURCES
from autoscaler.wiring.ports import other_parts
from autoscaler.wiring.ways import prewarm_actuators
from simulator.experiments.tuning.study import Study

ROOT = Path(__file__).resolve().parents[3]
OUR_CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for room in ("autoscaler", "policies", "simulator", "leadtime")
    for path in sorted((ROOT / room).rglob("*.py"))
)


def test_every_extra_that_is_named_is_one_of_the_projects() -> None:
    named = set(re.findall(r"\b(?:install|missing)\([\"'](\w+)[\"']", OUR_CODE))
    named |= {kind.EXTRA for kind in SOURCES.values() if kind.EXTRA is not None}
    named |= {facts.extra for facts in WAYS.values() if facts.extra is not None}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named >= {"ray", "kube", "mqtt", "prometheus", "gke", "sim"}
    assert named <= set(project["optional-dependencies"])


def test_nobody_is_sent_to_an_index_that_does_not_have_it() -> None:
    assert install("kube") == "pip install '.[kube]' in a checkout of leadtime"
    assert not re.search(r"pip install '?leadtime\b", OUR_CODE)


def test_a_node_pool_without_googles_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "autoscaler.actuators.ways.node_pool", None)
    with pytest.raises(
        ConfigError, match=r"prewarm: node_pool needs the extra `gke` \(pip install '\.\[gke\]' in a checkout"
    ):
        prewarm_actuators([WarmPool("h100", "node_pool")], Surroundings())


@pytest.mark.parametrize(
    ("key", "block", "module"),
    [
        ("mqtt", "{host: b}", "autoscaler.sources.mqtt_hints"),
        ("prometheus", '{url: "http://p"}', "autoscaler.sources.prometheus"),
    ],
)
def test_a_source_without_its_library_says_what_to_install(
    key: str, block: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "lt.yaml"
    path.write_text(f'version: 1\nservices: [{{dashboard: "http://127.0.0.1:1"}}]\n{key}: {block}\n', encoding="utf-8")
    config = load_config(path)
    with pytest.raises(ConfigError, match=rf"^{key}: needs the extra `{key}` \(pip install '\.\[{key}\]'"):
        other_parts(config, None, new_telemetry(config.controller), lambda: True)


def test_a_search_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        LeadtimeError, match=r"leadtime tune: needs the extra `sim` \(pip install '\.\[sim\]' in a checkout"
    ):
        Study("static", {}, 1)
