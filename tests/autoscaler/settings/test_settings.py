"""A settings file becomes plain settings: values, paths, hash; and no secret ever shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import autoscaler.settings.sources
from autoscaler.common.errors import ConfigError
from autoscaler.core.types import Follows, GuardSettings, Startup
from autoscaler.settings import load_config, settings_schema
from autoscaler.settings.model import Config
from autoscaler.settings.settings import SOURCES
from policies.base import DeploymentKey, Slo
from policies.base.durations import Duration
from policies.capacity.load import load_profile

BASE = """\
version: 1
services:
  - {name: local, dashboard: "http://127.0.0.1:8265/"%s}
policy: {name: static, options: {replicas: 2}}
"""
SECRET = "s3cr3t-T0ken-0123456789abcdef"


def load(folder: Path, text: str) -> Config:
    path = folder / "lt.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_every_setting_of_the_core_arrives_in_the_controllers_settings(tmp_path: Path) -> None:
    text = """\
version: 1
dry_run: false
tick_s: 2
services: [{dashboard: "https://ray:8265"}]
deployments:
  - match: "*/*/chat/LLMServer:*"
    profile: llama-3.1-8b/h100/tp1
    node_pools: [h100]
    replicas: {min: 0, max: 8}
    slo: {ttft_s: 1, itl_s: null, target_fraction: 0.95}
    weight: 2
    priority: 3
    guaranteed_gpus: 4
    startup: {load_s: 9}
  - match: chat/ingress
    replicas: {max: 6}
    follows: {deployment: "chat/LLMServer:*", ratio: 0.5, min: 2}
node_pools:
  - {name: h100, gpus_per_node: 4, gpu: nvidia-h100-80gb, min_nodes: 1, max_nodes: 3, price_usd_per_hour: 44,
     provision_s: {median: 100, p99: 300}, image_pull_s: 5}
gpu_budget: {nvidia-h100-80gb: 16}
policy: {name: static, options: {replicas: 2}}
guards: {stale_after_s: 30, scale_down_stabilization_s: 10, max_step_up: 2, max_step_down: null}
"""
    core = load(tmp_path, text).controller
    llm, ingress = core.deployments
    profile = load_profile("llama-3.1-8b/h100/tp1")
    assert core.settings_for(DeploymentKey("ns", "svc", "chat", "LLMServer:llama")) is llm
    assert core.settings_for(DeploymentKey.parse("chat/ingress")) is ingress
    assert core.settings_for(DeploymentKey.parse("other/app")) is None
    assert llm.profile == profile
    assert (llm.node_pools, llm.min_replicas, llm.max_replicas) == (("h100",), 0, 8)
    assert llm.slo == Slo(1.0, None, 0.95)
    assert (llm.weight, llm.priority, llm.guaranteed_gpus, llm.gpus_per_replica) == (2.0, 3, 4, None)
    assert llm.startup == Startup(Duration(9.0), profile.init_s)
    assert ingress.follows == Follows("chat/LLMServer:*", 0.5, 2)
    assert (ingress.profile, ingress.startup, ingress.slo) == (None, None, Slo())
    (pool,) = core.pools
    assert (pool.gpus_per_node, pool.gpu, pool.min_nodes, pool.max_nodes) == (4, "nvidia-h100-80gb", 1, 3)
    assert pool.provision_s == Duration.from_median_p99(100, 300)
    assert (pool.image_pull_s, pool.price_usd_per_hour, pool.prewarm) == (Duration(5.0), 44.0, "none")
    assert core.guards == GuardSettings(30.0, 10.0, 2, None)
    assert (core.dry_run, core.tick_s, core.gpu_budget) == (False, 2.0, {"nvidia-h100-80gb": 16})
    assert (core.policy_name, core.policy_options) == ("static", {"replicas": 2})


def test_plain_words_and_numbers_are_read_as_yaml_1_2_has_them(tmp_path: Path) -> None:
    text = BASE % "" + "tick_s: 1e1\ndeployments: [{match: a/b, replicas: {min: 012, max: 0o17}}]\n"
    core = load(tmp_path, text + "node_pools: [{name: on}, {name: 2026-01-31}]\n").controller
    assert core.tick_s == 10.0
    assert (core.deployments[0].min_replicas, core.deployments[0].max_replicas) == (12, 15)
    assert [pool.name for pool in core.pools] == ["on", "2026-01-31"]


def test_live_settings_put_every_guard_over_any_policy(tmp_path: Path) -> None:
    assert load(tmp_path, BASE % "").controller.full_guards


def test_a_new_install_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, BASE % "").controller.dry_run is True


def test_what_is_left_out_has_the_cores_own_defaults(tmp_path: Path) -> None:
    text = BASE % "" + "deployments: [{match: a/b, replicas: {max: 3}}]\nnode_pools: [{name: p}]\n"
    core = load(tmp_path, text).controller
    assert core.guards == GuardSettings()
    assert (core.deployments[0].min_replicas, core.deployments[0].slo) == (1, Slo())
    assert core.pools[0].provision_s == Duration(150.0, 0.45)


def test_a_pools_gpu_and_price_are_its_profiles_when_it_names_none(tmp_path: Path) -> None:
    text = BASE % "" + (
        "deployments: [{match: a/b, profile: llama-3.1-8b/h100/tp1, node_pools: [p, q], replicas: {max: 3}}]\n"
        "node_pools: [{name: p, gpus_per_node: 4}, {name: q, price_usd_per_hour: 1}, {name: r}]\n"
    )
    p, q, r = load(tmp_path, text).controller.pools
    profile = load_profile("llama-3.1-8b/h100/tp1")
    assert profile.price_usd_per_gpu_hour is not None
    assert (p.gpu, p.price_usd_per_hour) == (profile.gpu, 4 * profile.price_usd_per_gpu_hour)
    assert (q.price_usd_per_hour, r.gpu, r.price_usd_per_hour) == (1.0, "", None)


def test_the_hash_is_of_the_files_bytes(tmp_path: Path) -> None:
    config = load(tmp_path, BASE % "")
    assert config.controller.sha256 == hashlib.sha256((tmp_path / "lt.yaml").read_bytes()).hexdigest()
    assert load(tmp_path, BASE % "" + "# a comment\n").controller.sha256 != config.controller.sha256


def test_paths_start_from_the_files_folder_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "token").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "etc" / "lt.yaml").write_text(
        BASE % ", token_file: token" + "state: {path: ../var/lt.sqlite}\njournal: {path: /var/journal}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("etc/lt.yaml"))
    assert config.services[0].token_file == tmp_path / "etc" / "token"
    assert config.state_path == tmp_path / "etc" / "../var/lt.sqlite"
    assert config.journal_path == Path("/var/journal")
    assert config.server.token_file is None
    assert config.services[0].dashboard == "http://127.0.0.1:8265"


def test_home_and_environment_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LT_STATE", str(tmp_path / "state"))
    config = load(tmp_path, BASE % "" + "state: {path: '${LT_STATE}/lt.sqlite'}\njournal: {path: ~/journal}\n")
    assert config.state_path == tmp_path / "state" / "lt.sqlite"
    assert config.journal_path == tmp_path / "journal"


def test_an_environment_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LT_NOWHERE", raising=False)
    assert refused(tmp_path, BASE % "" + "state: {path: $LT_NOWHERE/lt.sqlite}\n") == (
        "lt.yaml:5: state.path: '$LT_NOWHERE/lt.sqlite'; environment variable LT_NOWHERE is not set; allowed: a path"
    )


OWN_POLICY = """
from policies.base import FleetProposal
from policies.plugin import PolicyPlugin


class Mine(PolicyPlugin):
    name = "mine"

    def propose(self, fleet, state, now_s):
        return FleetProposal({})
"""


def test_a_policy_in_a_file_of_ones_own_is_found_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_POLICY, encoding="utf-8")
    text = (BASE % "").replace("{name: static, options: {replicas: 2}}", "{name: 'mine.py:Mine'}")
    assert load(tmp_path, text).controller.policy_name == f"{tmp_path}/mine.py:Mine"


def test_keys_of_a_yaml_anchor_are_taken_and_checked(tmp_path: Path) -> None:
    text = BASE % "" + "deployments:\n  - &one {match: a/b, replicas: {max: 3}}\n  - {<<: *one, match: c/d}\n"
    assert [d.match for d in load(tmp_path, text).controller.deployments] == ["a/b", "c/d"]


# ---------------------------------------------------------------- files that settings name


def test_a_token_file_that_cannot_be_read_is_named_and_not_its_contents(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    where = "lt.yaml:3: services[0].token_file: "
    assert refused(tmp_path, BASE % ", token_file: ./none") == (
        f"{where}'./none'; no such file or directory; allowed: a file that can be read"
    )
    assert refused(tmp_path, BASE % ", token_file: folder") == (
        f"{where}'folder'; is a directory; allowed: a file that can be read"
    )


@pytest.mark.parametrize(
    ("content", "what"), [("\n", "nothing"), (f"{SECRET} {SECRET}", "more than one word")], ids=["empty", "two words"]
)
def test_a_token_file_must_hold_just_a_token(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "t").write_text(content, encoding="utf-8")
    assert refused(tmp_path, BASE % "" + "server: {token_file: ./t}\n") == (
        f"lt.yaml:5: server.token_file: './t'; {what} in it; allowed: a file that holds just the token"
    )


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("hello", encoding="utf-8")
    assert refused(tmp_path, BASE % ", ca_file: ca") == (
        "lt.yaml:3: services[0].ca_file: 'ca'; no certificate in it; allowed: a PEM file"
    )


def test_state_in_a_folder_and_journal_in_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("", encoding="utf-8")
    (tmp_path / "d").mkdir()
    assert refused(tmp_path, BASE % "" + "state: {path: d}\n") == (
        "lt.yaml:5: state.path: 'd'; that is a folder; allowed: the path of a file"
    )
    assert refused(tmp_path, BASE % "" + "journal: {path: f}\n") == (
        "lt.yaml:5: journal.path: 'f'; that is a file; allowed: the path of a folder"
    )


def test_files_can_be_left_out_of_the_check(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(BASE % ", token_file: ./none", encoding="utf-8")
    assert load_config(path, look_at_files=False).services[0].token_file == tmp_path / "none"


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "text",
    [
        BASE % f", token_file: {SECRET}",
        BASE % f", token: {SECRET}",
        (BASE % "").replace("http://127", f"http://me:{SECRET}@127"),
        BASE % "" + f"mqtt: {{host: a, password: {SECRET}}}\n",
        BASE % "" + f"mqtt: mqtt://me:{SECRET}@broker\n",
        BASE % "" + f"server: {{token: {SECRET}}}\n",
        BASE % "" + f"server: {{token_file: [{SECRET}]}}\n",
        BASE % "" + f"server: {{host: {{token: {SECRET}}}}}\n",
    ],
)
def test_a_secret_in_the_wrong_place_never_shows(tmp_path: Path, text: str) -> None:
    assert SECRET[:8] not in refused(tmp_path, text)


def test_settings_show_the_tokens_file_and_never_the_token(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(SECRET, encoding="utf-8")
    config = load(tmp_path, BASE % ", token_file: ./t" + "server: {token_file: ./t}\n")
    assert SECRET not in repr(config)
    assert str(tmp_path / "t") in repr(config)


def test_the_settings_that_charts_and_other_programs_write_are_accepted(tmp_path: Path) -> None:
    """Nulls and written defaults included."""
    text = """\
version: 1
dry_run: true
tick_s: 5
services:
  - {name: local, namespace: default, dashboard: "http://127.0.0.1:8265", token_file: null, ca_file: null,
     metrics: auto}
deployments:
  - match: "*/*/chat/LLMServer:*"
    profile: llama-3.1-70b/h100/tp4
    node_pools: [h100]
    replicas: {min: 1, max: 8}
    slo: {ttft_s: 2.0, itl_s: 0.05, target_fraction: 0.99}
    weight: 1.0
    follows: null
node_pools: [{name: h100, gpus_per_node: 8, prewarm: none, price_usd_per_hour: 88.0, max_nodes: 4}]
policy: {name: predictive, options: {}}
state: {path: ./leadtime.sqlite}
journal: {path: ./journal, max_bytes: 100000000}
prometheus: null
mqtt: null
kubernetes: null
server: {host: 127.0.0.1, port: 8080, token_file: null}
leader_election: {enabled: false, lease_s: 15, renew_deadline_s: 10}
"""
    config = load(tmp_path, text)
    assert config.controller.policy_name == "predictive"
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert config.journal_max_bytes == 100_000_000


def test_a_source_is_a_file_of_settings_that_bears_its_key() -> None:
    files = {path.stem for path in Path(autoscaler.settings.sources.__file__).parent.glob("*.py")}
    assert set(SOURCES) == files - {"__init__", "base"}
    described = settings_schema()["properties"]
    assert all(described[key]["description"] == kind.PURPOSE for key, kind in SOURCES.items())
