"""Every mistake in a settings file is one line: file, line, key, what was written, what is allowed."""
# ruff: noqa: E501 (whole messages, as people will read them)

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from autoscaler.common.errors import ConfigError
from autoscaler.settings import load_config
from autoscaler.settings.document.problems import BadSettings
from autoscaler.settings.settings import SOURCES

GOOD = """\
version: 1
services:
  - {name: local, dashboard: "http://127.0.0.1:8265"}
deployments:
  - match: chat/llm
    profile: llama-3.1-8b/h100/tp1
    node_pools: [h100]
    replicas: {min: 1, max: 8}
node_pools:
  - {name: h100, gpus_per_node: 8}
policy: {name: static, options: {replicas: 2}}
"""
POOL_LINE = "  - {name: h100, gpus_per_node: 8}"
DURATION = "seconds >= 0, or {median: .., p99: ..} with 0 < median <= p99"
PATTERN = "APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT, each part a name or a pattern with *"
NAME = "a name without '/', '*' or spaces"
TOP_KEYS = (
    "version, dry_run, tick_s, services, deployments, tenants, node_pools, gpu_budget, reading, policy, guards, state, "
    f"journal, server, leader_election, kubernetes, {', '.join(SOURCES)}"
)

WRONG_TYPE_OR_RANGE = [
    ("{min: 1, max: 8}", "{min: 1, max: 0}", "8: deployments[0].replicas.max: 0; allowed: a whole number >= 1"),
    ("{min: 1, max: 8}", "{min: -1, max: 8}", "8: deployments[0].replicas.min: -1; allowed: a whole number >= 0"),
    ("{min: 1, max: 8}", "{min: 1}", "8: deployments[0].replicas.max: missing; allowed: a whole number >= 1"),
    ("{min: 1, max: 8}", "{max: 2.5}", "8: deployments[0].replicas.max: 2.5; allowed: a whole number >= 1"),
    ("{min: 1, max: 8}", "{max: yes}", "8: deployments[0].replicas.max: 'yes'; allowed: a whole number >= 1"),
    ("{min: 1, max: 8}", "{max: true}", "8: deployments[0].replicas.max: true; allowed: a whole number >= 1"),
    ("{min: 1, max: 8}", "{max: null}", "8: deployments[0].replicas.max: null; allowed: a whole number >= 1"),
    (
        "{min: 1, max: 8}",
        '{max: "8"}',
        "8: deployments[0].replicas.max: '8'; allowed: a whole number >= 1 (YAML reads this as text: write 8)",
    ),
    ("{min: 1, max: 8}", "8", "8: deployments[0].replicas: 8; allowed: a mapping with min, max"),
    ("node_pools: [h100]", "node_pools: h100", "7: deployments[0].node_pools: 'h100'; allowed: a list"),
    ("node_pools: [h100]", "weight: 0", "7: deployments[0].weight: 0; allowed: a number > 0"),
    ("node_pools: [h100]", "weight: .inf", "7: deployments[0].weight: inf; allowed: a number > 0"),
    ("node_pools: [h100]", "weight: .nan", "7: deployments[0].weight: nan; allowed: a number > 0"),
    (
        "node_pools: [h100]",
        "slo: {target_fraction: 99}",
        "7: deployments[0].slo.target_fraction: 99; allowed: a number >= 0.5 and < 1 (0.99 means 99 %)",
    ),
    (
        "node_pools: [h100]",
        "slo: {ttft_s: fast}",
        "7: deployments[0].slo.ttft_s: 'fast'; allowed: seconds above 0 and up to 600 (2000 ms are written 2), or null",
    ),
    (
        "node_pools: [h100]",
        "gpus_per_replica: 0",
        "7: deployments[0].gpus_per_replica: 0; allowed: a whole number >= 1, or null",
    ),
    (
        "node_pools: [h100]",
        "startup: {load_s: {median: 60, p99: 40}}",
        f"7: deployments[0].startup.load_s: median: 60, p99: 40; allowed: {DURATION}",
    ),
    (
        "node_pools: [h100]",
        "startup: {init_s: {median: 60}}",
        f"7: deployments[0].startup.init_s: median: 60; allowed: {DURATION}",
    ),
    (
        "node_pools: [h100]",
        "startup: {init_s: -1}",
        f"7: deployments[0].startup.init_s: -1; allowed: {DURATION}",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 25 * * *", duration_s: 60, rps: 1}]',
        "7: deployments[0].schedule[0].cron: '0 25 * * *': bad hour; allowed: five fields of cron: minute, hour, day of "
        "the month, month, day of the week",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 9 * * *", time_zone: Berlin, duration_s: 60, rps: 1}]',
        "7: deployments[0].schedule[0].time_zone: 'Berlin'; allowed: a time zone of the IANA, as Europe/Berlin or UTC",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 * * * *", duration_s: 8000, rps: 1}]',
        "7: deployments[0].schedule[0].duration_s: 8000; it begins again after 3600 s; allowed: no longer than that",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 9 * * *", duration_s: 5, rps: 1}]',
        "7: deployments[0].schedule[0].duration_s: 5; allowed: a number from 60 to 604800",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 9 * * *", duration_s: 60}]',
        "7: deployments[0].schedule[0]: exactly one of rps and multiplier is needed",
    ),
    (
        "node_pools: [h100]",
        'schedule: [{name: x, cron: "0 9 * * *", duration_s: 60, multiplier: 0.5}]',
        "7: deployments[0].schedule[0].multiplier: 0.5; allowed: a number from 1 to 100, or null",
    ),
    ("gpus_per_node: 8", "provision_s: soon", f"10: node_pools[0].provision_s: 'soon'; allowed: {DURATION}"),
    ("version: 1", "version: 2", "1: version: 2; allowed: 1"),
    ("version: 1", "dry_run: true", ": version: missing; allowed: 1"),
    ("version: 1", "version: 1\ndry_run: maybe", "2: dry_run: 'maybe'; allowed: true or false"),
    ("version: 1", "version: 1\ntick_s: 0", "2: tick_s: 0; allowed: a number from 0.5 to 300"),
    (
        "version: 1",
        "version: 1\ntick_s: 2024-01-01",
        "2: tick_s: '2024-01-01'; allowed: a number from 0.5 to 300",
    ),
    (
        "version: 1",
        "version: 1\njournal: {max_bytes: 1e8}",
        "2: journal.max_bytes: 100000000.0; allowed: a whole number >= 100000 (write 100000000)",
    ),
    (
        "version: 1",
        "version: 1\njournal: {max_bytes: 100_000_000}",
        "2: journal.max_bytes: '100_000_000'; allowed: a whole number >= 100000 "
        "(YAML reads this as text: write 100000000)",
    ),
    ("version: 1", "version: 1\ntick_s: 1:30", "2: tick_s: '1:30'; allowed: a number from 0.5 to 300"),
    ("version: 1", "version: 1\ndry_run: off", "2: dry_run: 'off'; allowed: true or false"),
    (
        "{min: 1, max: 8}",
        "{min: 1, max: 8}\n    slo: {ttft_s: 2000}",
        "9: deployments[0].slo.ttft_s: 2000; allowed: seconds above 0 and up to 600 (2000 ms are written 2), or null",
    ),
    (
        "{min: 1, max: 8}",
        "{min: 1, max: 8}\n    slo: {itl_s: 50}",
        "9: deployments[0].slo.itl_s: 50; allowed: seconds above 0 and up to 10 (50 ms are written 0.05), or null",
    ),
    (
        "version: 1",
        "version: 1\nserver: {port: 70000}",
        "2: server.port: 70000; allowed: a whole number from 0 to 65535",
    ),
    ("version: 1", "version: 1\njournal: {path: ''}", "2: journal.path: ''; allowed: a path"),
    (
        "version: 1",
        "version: 1\ngpu_budget: {nvidia-h100-80gb: -1}",
        "2: gpu_budget.nvidia-h100-80gb: -1; allowed: a whole number >= 0",
    ),
    ("name: local", "name: a/b", f"3: services[0].name: 'a/b'; allowed: {NAME}"),
    (
        'dashboard: "http://127.0.0.1:8265"',
        "token_file: null",
        "3: services[0].dashboard: missing; allowed: http://HOST:PORT or https://HOST:PORT, without user, password or query",
    ),
    (
        "http://127.0.0.1:8265",
        "127.0.0.1:8265",
        "3: services[0].dashboard: '127.0.0.1:8265'; allowed: http://HOST:PORT or https://HOST:PORT, without user, password or query",
    ),
    (
        '  - {name: local, dashboard: "http://127.0.0.1:8265"}',
        "  []",
        "2: services: none; allowed: at least one, or kubernetes, which finds them",
    ),
    ("match: chat/llm", "match: 5", f"5: deployments[0].match: 5; allowed: {PATTERN}"),
]

UNKNOWN_KEYS = [
    ("policy:", "polcy:", f"11: polcy: unknown key; did you mean 'policy'? (allowed: {TOP_KEYS})"),
    (
        "{min: 1, max: 8}",
        "{mim: 1, max: 8}",
        "8: deployments[0].replicas.mim: unknown key; did you mean 'min'? (allowed: min, max)",
    ),
    (
        "version: 1",
        "version: 1\nserver: {1: 2}",
        "2: server.1: unknown key (allowed: host, port, token_file, read_token_file, "
        "open_metrics, plan_token_files, hosts, cert_file, key_file, max_connections, max_connections_per_peer)",
    ),
    (
        "{replicas: 2}",
        "{replicsa: 2}",
        "11: policy.options.replicsa: unknown option; did you mean 'replicas'? (allowed: replicas)",
    ),
]

CONTRADICTIONS = [
    (
        "{min: 1, max: 8}",
        "{min: 5, max: 3}",
        "8: deployments[0].replicas.min: 5; allowed: at most replicas.max, which is 3",
    ),
    (
        "gpus_per_node: 8",
        "min_nodes: 3, max_nodes: 2",
        "10: node_pools[0].min_nodes: 3; allowed: at most max_nodes, which is 2",
    ),
    (
        POOL_LINE,
        f"{POOL_LINE}\n{POOL_LINE}",
        "11: node_pools[1].name: 'h100'; node_pools[0] has it already; allowed: each only once",
    ),
    (
        "deployments:",
        '  - {name: local, dashboard: "http://other:8265"}\ndeployments:',
        "4: services[1].name: 'default/local'; services[0] has it already; allowed: each only once",
    ),
    (
        "node_pools:\n",
        "  - {match: chat/llm, replicas: {max: 1}}\nnode_pools:\n",
        "9: deployments[1].match: 'chat/llm'; deployments[0] has it already; allowed: each only once",
    ),
    (
        "node_pools: [h100]",
        "node_pools: [h200]",
        "7: deployments[0].node_pools[0]: 'h200'; allowed: h100; did you mean 'h100'?",
    ),
    (
        f"node_pools:\n{POOL_LINE}\n",
        "",
        "7: deployments[0].node_pools[0]: 'h100'; allowed: a name from node_pools, which has none",
    ),
    (
        "gpus_per_node: 8",
        "gpu: nvidia-a100-80gb",
        "7: deployments[0].node_pools[0]: 'h100'; its GPUs are nvidia-a100-80gb, profile llama-3.1-8b/h100/tp1 is for "
        "nvidia-h100-80gb; allowed: a pool of nvidia-h100-80gb, or another profile",
    ),
    (
        "node_pools: [h100]",
        "node_pools: [h100]\n    gpus_per_replica: 16",
        "7: deployments[0].node_pools[0]: 'h100'; a replica needs 16 GPUs, a node of this pool has 8; "
        "allowed: pools with gpus_per_node >= 16",
    ),
    ("match: chat/llm", "match: llm", f"5: deployments[0].match: 'llm'; allowed: {PATTERN}"),
    (
        "node_pools: [h100]",
        "follows: {deployment: chat/llm}",
        "7: deployments[0].follows.deployment: 'chat/llm'; allowed: another deployment than the ones that this entry matches",
    ),
    (
        "node_pools: [h100]",
        "follows: {deployment: llm}",
        f"7: deployments[0].follows.deployment: 'llm'; allowed: {PATTERN}",
    ),
    (
        "version: 1",
        "version: 1\ngpu_budget: {nvidia-h100: 8}",
        "2: gpu_budget.nvidia-h100: no such GPU kind here; allowed: nvidia-h100-80gb; did you mean 'nvidia-h100-80gb'?",
    ),
    (
        "version: 1",
        "version: 1\nguards: {stale_after_s: 8}",
        "2: guards.stale_after_s: 8; allowed: at least two ticks, which is 10",
    ),
    (
        "version: 1",
        "version: 1\nleader_election: {lease_s: 10, renew_deadline_s: 10}",
        "2: leader_election.renew_deadline_s: 10; allowed: less than lease_s, which is 10",
    ),
    (
        "{replicas: 2}",
        "{replicas: -1}",
        "11: policy.options.replicas: -1; allowed: a whole number >= 0 or null",
    ),
    (
        "options: {replicas: 2}",
        "options: {}",
        "11: policy.name: 'static' with these options needs to know the future, as only the simulator can tell it; "
        "allowed: other options or another policy",
    ),
]

MQTT = [
    (
        "mqtt: {host: broker, password: hunter2}",
        "mqtt.password: unknown key; did you mean 'password_file'? (allowed: host, port, tls, ca_file, client_cert_file, "
        "client_key_file, username, password_file, prefix, max_rps_per_deployment, publish, identifier, timeout_s)",
    ),
    ("mqtt: mqtt://me:hunter2@broker", "mqtt: 'mqtt://***@broker'; allowed: "),
    ("mqtt: {}", "mqtt.host: missing; allowed: a host or IP address"),
    ("mqtt: {host: b, prefix: a/#}", "mqtt.prefix: 'a/#'; allowed: a topic without wildcards, such as leadtime or"),
    (
        "mqtt: {host: b, max_rps_per_deployment: 0}",
        "mqtt.max_rps_per_deployment: 0; allowed: a number > 0 and <= 1000000",
    ),
    ("mqtt: {host: b, tls: maybe}", "mqtt.tls: 'maybe'; allowed: true or false"),
    (
        "mqtt: {host: b, tls: false, ca_file: x}",
        "mqtt.ca_file: certificates without TLS; allowed: with tls: true (and 1 more; `leadtime config validate` lists",
    ),
    (
        "mqtt: {host: b, tls: false, client_cert_file: x}",
        "mqtt.client_cert_file: a certificate without TLS; allowed: with tls: true",
    ),
    (
        "mqtt: {host: b, client_key_file: x}",
        "mqtt.client_key_file: a key without a certificate; allowed: client_cert_file beside it",
    ),
    (
        "mqtt: {host: b, identifier: mine}\nkubernetes: {}\nleader_election: {enabled: true}",
        "mqtt.identifier: 'mine' with leader_election, so several processes would share one name and cut each other off; "
        "allowed: null (the release names the session, the pod the rest), or leader_election.enabled: false",
    ),
    ("mqtt: {host: b, client_cert_file: x}", "mqtt.client_cert_file: 'x'; no such file or directory; allowed: "),
    ("mqtt: {host: b, password_file: x}", "mqtt.password_file: a password without a user; allowed: username beside it"),
    ("mqtt: {host: b, username: u, password_file: x}", "mqtt.password_file: 'x'; no such file or directory; allowed: "),
]


def complaint(folder: Path, text: str) -> str:
    """The one line that `load_config` has for this text, the folder left out."""
    path = folder / "lt.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_the_settings_that_the_mistakes_are_made_in_are_good(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_config(path).controller.deployments[0].max_replicas == 8


@pytest.mark.parametrize(("old", "new", "says"), [*WRONG_TYPE_OR_RANGE, *UNKNOWN_KEYS, *CONTRADICTIONS])
def test_a_mistake_is_named_with_its_line_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    expected = f"lt.yaml{says}" if says.startswith(":") else f"lt.yaml:{says}"
    assert complaint(tmp_path, changed(old, new)) == expected


@pytest.mark.parametrize(("line", "says"), MQTT)
def test_a_broker_is_described_completely_and_without_secrets(tmp_path: Path, line: str, says: str) -> None:
    found = complaint(tmp_path, f"{GOOD}{line}\n")
    assert found.startswith(f"lt.yaml:12: {says}"), found
    assert "hunter2" not in found


KUBERNETES = [
    (
        "leader_election: {enabled: true}",
        "leader_election.enabled: true; without kubernetes there is no lease; allowed: false (run a single controller), "
        "or add kubernetes",
    ),
    ("kubernetes: {watch_namespaces: [a, a]}", "kubernetes.watch_namespaces[1]: 'a'; allowed: each only once"),
    (
        "kubernetes: {namespaces: [a]}",
        "kubernetes.namespaces: unknown key; did you mean 'namespace'? (allowed: watch_namespaces, name, namespace, "
        "tokens, token_files, nodes, autoscalers, events, kubeconfig, context, timeout_s)",
    ),
    (
        "kubernetes: {kubeconfig: nowhere}",
        "kubernetes.kubeconfig: 'nowhere'; no such file or directory; allowed: a file that can be read",
    ),
    ("kubernetes: {tokens: lt.yaml}", "kubernetes.tokens: 'lt.yaml'; that is a file; allowed: the path of a folder"),
]


@pytest.mark.parametrize(("line", "says"), KUBERNETES)
def test_what_a_cluster_needs_is_checked(tmp_path: Path, line: str, says: str) -> None:
    assert complaint(tmp_path, f"{GOOD}{line}\n") == f"lt.yaml:12: {says}"


def test_an_unknown_way_to_prewarm_is_told_what_is_allowed(tmp_path: Path) -> None:
    says = complaint(tmp_path, changed("gpus_per_node: 8", "prewarm: magic"))
    assert says.startswith("lt.yaml:10: node_pools[0].prewarm: 'magic'; allowed: none, placeholder, capacity_buffer,")


@pytest.mark.parametrize(
    "line",
    [
        "prometheus: null\nmqtt: null\nkubernetes: null",
        "leader_election: {enabled: false, lease_s: 15, renew_deadline_s: 10}",
        "guards:\nserver:\nstate:\njournal:\nleader_election:",
        "guards: {stale_after_s: null, max_step_down: null}",
    ],
)
def test_null_and_the_written_defaults_are_accepted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(f"{GOOD}{line}\n", encoding="utf-8")
    assert load_config(path).controller.guards.stale_after_s == 60.0


def test_guarantees_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    text = changed("node_pools: [h100]", "guaranteed_gpus: 9") + "gpu_budget: {nvidia-h100-80gb: 8}\n"
    assert complaint(tmp_path, text) == (
        "lt.yaml:12: gpu_budget.nvidia-h100-80gb: 8; allowed: at least the guaranteed_gpus of its deployments together, "
        "which is 9"
    )


@pytest.mark.parametrize("match", ["chat/llm", "*/*/chat/llm", "team-*/own/chat/llm"])
@pytest.mark.parametrize("watched", ["", "watch_namespaces: [a, b]"])
def test_a_guarantee_for_every_namespace_is_refused(tmp_path: Path, match: str, watched: str) -> None:
    text = changed("node_pools: [h100]", "guaranteed_gpus: 2").replace("match: chat/llm", f'match: "{match}"')
    says = complaint(tmp_path, text + f"kubernetes: {{{watched}}}\n")
    assert "deployments[0].guaranteed_gpus: 2; it would be for every namespace that is watched; allowed: 0, or" in says


@pytest.mark.parametrize(("match", "watched"), [("a/*/chat/llm", ""), ("chat/llm", "watch_namespaces: [a]")])
def test_a_guarantee_for_one_namespace_is_taken(tmp_path: Path, match: str, watched: str) -> None:
    text = changed("node_pools: [h100]", "guaranteed_gpus: 2").replace("match: chat/llm", f'match: "{match}"')
    path = tmp_path / "lt.yaml"
    path.write_text(text + f"kubernetes: {{{watched}}}\n", encoding="utf-8")
    assert load_config(path).controller.deployments[0].guaranteed_gpus == 2


def test_a_gpu_kind_without_a_budget_is_no_tenants(tmp_path: Path) -> None:
    says = complaint(tmp_path, GOOD + "gpu_budget: {nvidia-h100-80gb: 8}\ntenants: {gpu: nvidia-h100-80g}\n")
    assert says.endswith("tenants.gpu: 'nvidia-h100-80g'; allowed: nvidia-h100-80gb; did you mean 'nvidia-h100-80gb'?")


def test_what_may_be_widened_is_one_of_three(tmp_path: Path) -> None:
    says = complaint(tmp_path, changed("node_pools: [h100]", "may_widen: [weight]"))
    assert "may_widen[0]: 'weight'; allowed: min_replicas, max_replicas, slo" in says


def test_an_unknown_policy_is_told_the_nearest_name(tmp_path: Path) -> None:
    says = complaint(tmp_path, changed("name: static", "name: statik"))
    assert says.startswith("lt.yaml:11: policy.name: 'statik'; allowed: predictive, static, ")
    assert says.endswith("; did you mean 'static'?")


def test_an_unknown_profile_is_told_the_nearest_preset(tmp_path: Path) -> None:
    says = complaint(tmp_path, changed("profile: llama-3.1-8b/h100/tp1", "profile: llama-3.1-8b/h100/tp"))
    assert says.startswith(
        "lt.yaml:6: deployments[0].profile: 'llama-3.1-8b/h100/tp'; allowed: the path of a file, or one of "
    )
    assert says.endswith("; did you mean 'llama-3.1-8b/h100/tp1'?")


def test_a_bad_profile_file_is_named_with_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nstepp: {}\n", encoding="utf-8")
    says = complaint(tmp_path, changed("profile: llama-3.1-8b/h100/tp1", "profile: mine.yaml"))
    assert says.startswith(
        "lt.yaml:6: deployments[0].profile: mine.yaml: the profile: unknown key 'stepp'; did you mean 'step'?"
    )


def test_several_mistakes_give_the_first_of_the_file_and_a_count(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(changed("{min: 1, max: 8}", "{min: 1, max: 0}") + "tick_s: 0\ndry_run: 3\n", encoding="utf-8")
    with pytest.raises(BadSettings) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"{path}:8: deployments[0].replicas.max: 0; allowed: a whole number >= 1 "
        "(and 2 more; `leadtime config validate` lists them)"
    )
    assert [line.split(":")[1] for line in caught.value.lines] == ["8", "12", "13"]


# ---------------------------------------------------------------- the file itself


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lt.yaml: empty; allowed: settings, beginning with version: 1"),
        ("# only a comment\n", "lt.yaml: empty; allowed: settings, beginning with version: 1"),
        ("- 1\n", "lt.yaml: no settings in it; allowed: a mapping, beginning with version: 1"),
        ("version: 1\nversion: 1\n", "lt.yaml:2: version: written twice (also in line 1); allowed: once"),
        (
            "version: 1\nserver: {port: 1, port: 2}\n",
            "lt.yaml:2: server.port: written twice (also in line 2); allowed: once",
        ),
        ("version: 1\nservices: [\n", "lt.yaml:3: not valid YAML: expected the node content, but found '<stream end>'"),
        (
            "version: !!python/object:os.system 1\n",
            "lt.yaml:1: not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("version: 1\n---\nversion: 1\n", "lt.yaml:2: not valid YAML: but found another document"),
        ("version: &a {b: *a}\n", "lt.yaml:1: version.b: an alias to itself; allowed: plain values"),
        ("version: 2024-13-45\n", "lt.yaml:1: version: '2024-13-45'; allowed: 1"),
        ("? [a, b]\n: 1\n", "lt.yaml:1: not valid YAML: found unhashable key"),
    ],
)
def test_a_file_that_is_no_settings_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert complaint(tmp_path, text) == says


def test_a_missing_file_is_told_where_an_example_is(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: no such file; `leadtime config example` prints one to begin with"


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_bytes(b"version: \xff\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: not UTF-8 text (byte 9); allowed: a YAML file"


def test_nesting_without_end_is_one_line_and_no_crash(tmp_path: Path) -> None:
    assert complaint(tmp_path, "version: " + "[" * 3000) == "lt.yaml:1: nested too deeply; allowed: 50 levels"
    assert complaint(tmp_path, "version: " + "[" * 60 + "]" * 60).endswith("nested too deeply; allowed: 50 levels")


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]" for before, after in pairwise("abcdefghij")]
    assert "aliases counted where they are used" in complaint(tmp_path, "\n".join(lines))


def test_a_token_file_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = GOOD.replace("{name: local,", "{name: local, token_file: pipe,")
    assert "token_file: 'pipe'; a pipe or device; allowed: a file" in complaint(tmp_path, text)


def test_the_query_of_an_address_is_not_shown_for_it_may_be_a_token(tmp_path: Path) -> None:
    said = complaint(tmp_path, GOOD.replace("127.0.0.1:8265", "127.0.0.1:8265/?token=hunter2"))
    assert "'http://127.0.0.1:8265/?***'; allowed: http://HOST:PORT" in said


@pytest.mark.parametrize("address", ["127.0.0.1:82650", "[::1"])
def test_an_address_that_cannot_be_one_is_refused(tmp_path: Path, address: str) -> None:
    said = complaint(tmp_path, GOOD.replace("127.0.0.1:8265", address))
    assert f"services[0].dashboard: 'http://{address}'; allowed: http://HOST:PORT" in said


@pytest.mark.parametrize("p99", ["1.0e+300", "1" + "0" * 400])
def test_a_spread_beyond_numbers_is_refused(tmp_path: Path, p99: str) -> None:
    wide = f"  - {{name: h100, gpus_per_node: 8, provision_s: {{median: 1, p99: {p99}}}}}"
    assert f"allowed: {DURATION}" in complaint(tmp_path, GOOD.replace(POOL_LINE, wide))


# ---------------------------------------------------------------- pre-warming

WARM = """\
version: 1
services: [{dashboard: "http://127.0.0.1:8265"}]
%s
node_pools:
  - name: h100
    gpus_per_node: 8
%s
"""
_KUBE = "kubernetes: {nodes: true}"
_GKE = "warm: {gke: {project: p, location: l, cluster: c}}"


@pytest.mark.parametrize(
    ("kube", "pool", "says"),
    [
        (_KUBE, "prewarm: node_pool\n    provisioner: autopilot\n    gpu: nvidia-l4\n    " + _GKE,
         "prewarm: node_pool; its nodes come from Autopilot, where node pools are Google's; allowed: none, placeholder, "
         "capacity_buffer"),
        (_KUBE, "prewarm: worker_group\n    provisioner: autopilot\n    gpu: nvidia-l4",
         "prewarm: worker_group; its nodes come from Autopilot, where node pools are Google's; allowed: none, placeholder, "
         "capacity_buffer"),
        (_KUBE, "prewarm: request_resources\n    provisioner: autopilot\n    gpu: nvidia-l4",
         "prewarm: request_resources; its nodes come from Autopilot"),
        (_KUBE, "prewarm: placeholder\n    warm: {object: H100_x}",
         "warm.object: 'H100_x'; allowed: as Kubernetes names objects"),
        (_KUBE, "min_nodes: -1", "min_nodes: -1; allowed: a whole number from 0 to 100000"),
        (_KUBE, "max_nodes: 1000000000", "max_nodes: 1000000000; allowed: "),
        (_KUBE, "prewarm: node_pool\n    provisioner: auto_provisioning\n    gpu: nvidia-l4\n    " + _GKE,
         "prewarm: node_pool; its nodes come from node auto-provisioning, which makes and deletes node pools by itself"),
        (_KUBE, "prewarm: provisioning_request\n    provisioner: compute_class",
         "prewarm: provisioning_request; its nodes come from a ComputeClass, which chooses the node pool by itself"),
        ("", "prewarm: placeholder",
         "prewarm: placeholder; it writes to the Kubernetes API; allowed: with a kubernetes block"),
        ("kubernetes: {}", "prewarm: capacity_buffer",
         "prewarm: capacity_buffer; it holds what is beyond the nodes in use, which nobody watches; allowed: with "
         "kubernetes.nodes true"),
        (_KUBE, "prewarm: placeholder\n    provisioner: autopilot",
         "gpu: missing; nodes without a pool of that name are known by their GPUs"),
        (_KUBE, "prewarm: placeholder\n    warm: {gpus: 16}", "warm.gpus: 16; allowed: at most gpus_per_node, which is 8"),
        (_KUBE, "prewarm: placeholder\n    warm: {group: a}",
         "warm.group: given; allowed: only with prewarm worker_group, and it is placeholder"),
        (_KUBE, "prewarm: node_pool", "warm.gke: missing; allowed: {project, location, cluster}, as Google names them"),
        ("", "prewarm: node_pool\n    warm: {gke: {project: p, location: l, cluster: c, autoscaled: false}}",
         "max_nodes: missing; the pool's size is set and no autoscaler bounds it"),
        (_KUBE, "prewarm: provisioning_request\n    warm: {max_run_s: 700000}",
         "warm.max_run_s: 700000; allowed: at most 604800 (seven days)"),
        (_KUBE, "prewarm: worker_group\n    warm: {service: chat}", "warm.service: 'chat'; allowed: NAMESPACE/NAME"),
    ],
)  # fmt: skip
def test_a_way_to_prewarm_that_cannot_work_is_refused(tmp_path: Path, kube: str, pool: str, says: str) -> None:
    assert f"node_pools[0].{says}" in complaint(tmp_path, WARM % (kube, f"    {pool}"))


@pytest.mark.parametrize(
    ("kube", "pool"),
    [
        (_KUBE, "prewarm: placeholder\n    provisioner: autopilot\n    gpu: nvidia-l4"),
        (_KUBE, "prewarm: capacity_buffer\n    provisioner: compute_class"),
        (_KUBE, "prewarm: worker_group\n    warm: {group: h100x8, service: llm/chat}"),
        ("", "prewarm: request_resources\n    warm: {resources: {GPU: 8}}"),
        ("", "prewarm: node_pool\n    " + _GKE),
        (_KUBE, "prewarm: provisioning_request"),
    ],
)
def test_every_way_to_prewarm_is_accepted_where_it_works(tmp_path: Path, kube: str, pool: str) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(WARM % (kube, f"    {pool}"), encoding="utf-8")
    (warm,) = load_config(path).prewarm
    assert (warm.name, warm.way) == ("h100", pool.split()[1])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "'H100:80'",
            "node_pools[0].name: 'H100:80'; the chart's object bears it as a label; allowed: letters, digits",
        ),
        ("a_b", "node_pools[0].warm.object: 'leadtime-warm-a_b'; allowed: as Kubernetes names objects"),
        ("H100", "node_pools[0].warm.object: 'leadtime-warm-H100'; allowed: as Kubernetes names objects"),
        ("x" * 64, "the chart's object bears it as a label"),
    ],
)
def test_a_pool_whose_name_kubernetes_would_not_take_is_refused(tmp_path: Path, name: str, says: str) -> None:
    text = WARM.replace("name: h100", f"name: {name}") % (_KUBE, "    prewarm: placeholder")
    assert says in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ("prewarm: placeholder, warm: {object: same}", "warm.object: same; node_pools[0] writes to it already"),
        ("prewarm: worker_group, warm: {group: g}", "warm.group: 'g'; node_pools[0] writes to it already"),
        ("prewarm: node_pool, warm: {gke: {project: p, location: l, cluster: c, node_pool: n1}}",
         "warm.gke: p/l/c/n1; node_pools[0] writes to it already"),
    ],
)  # fmt: skip
def test_two_pools_that_would_write_to_one_thing_are_refused(tmp_path: Path, ways: str, says: str) -> None:
    pools = "".join(f"\n  - {{name: {name}, gpus_per_node: 8, {ways}}}" for name in ("a", "b"))
    text = f"version: 1\nkubernetes: {{nodes: true}}\nnode_pools:{pools}\n"
    assert f"node_pools[1].{says}; allowed: each by one pool only" in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("{key_file: k.pem}", "server.key_file: a key without a certificate; allowed: cert_file beside it"),
        ("{open_metrics: true}", "server.open_metrics: without read_token_file everybody reads everything"),
        ("{plan_token_files: {a: f}}", "server.plan_token_files: without read_token_file everybody reads everything"),
        ('{hosts: ["http://x"]}', "server.hosts[0]: 'http://x'; allowed: a host name without port, or *"),
        ('{hosts: ["x:8080"]}', "server.hosts[0]: 'x:8080'; allowed: a host name without port, or *"),
        (
            "{max_connections_per_peer: 1}",
            "server.max_connections_per_peer: 1; allowed: a whole number from 4 to 65535",
        ),
    ],
)
def test_pages_that_cannot_be_as_they_are_set_are_refused_in_words(tmp_path: Path, block: str, words: str) -> None:
    assert words in complaint(tmp_path, changed("version: 1", f"version: 1\nserver: {block}"))
