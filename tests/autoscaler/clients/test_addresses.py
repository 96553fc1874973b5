"""Where leadtime connects to on the word of others: names, addresses, and what stays out of reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.clients.addresses import AllowList, ServiceHost, TargetRules, as_address, is_label, is_subdomain
from autoscaler.common.errors import ConfigError

METADATA = (
    "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
    "168.63.129.16", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255",
)  # fmt: skip


def refusal(rules: TargetRules, host: str) -> str | None:
    return rules.refusal(host, as_address(host))


@pytest.mark.parametrize("name", ["a", "chat-llm", "x" * 63, "0a"])
def test_names_that_kubernetes_takes_are_taken(name: str) -> None:
    assert is_label(name)
    assert is_subdomain(f"{name}.{name}")


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "u@x", "a/b", "..", "a..b", "a\n", "x" * 64, "a b", "a:b", "ä", "a?b", "a#b"]
)
def test_names_that_could_lead_elsewhere_are_not(name: str) -> None:
    assert not is_label(name)
    assert not is_subdomain(f"a.{name}.a") or "." in name


@given(st.text(max_size=70))
def test_no_name_leaves_its_place_in_an_address_or_a_path(name: str) -> None:
    if is_subdomain(name):
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert ".." not in name


@pytest.mark.parametrize("address", METADATA)
def test_metadata_and_link_local_addresses_are_never_read_whatever_is_allowed(address: str) -> None:
    everything = AllowList.of(["0.0.0.0/0", "::/0"])
    pods = frozenset([str(as_address(address))])
    assert refusal(TargetRules(everything, loopback=True), address)
    assert refusal(TargetRules(pods=lambda: pods), address)
    found = as_address(address)
    assert found is not None
    assert ServiceHost("head", "llm", everything).refusal("head.llm.svc.cluster.local", found)


def test_a_service_of_a_namespace_that_is_called_svc_is_not_the_one_that_was_asked_for() -> None:
    """A search path completes `head.llm.svc` to `head.llm.svc.svc.cluster.local`: a pod's name in a namespace `svc`."""
    address = as_address("10.0.0.7")
    assert address is not None
    asked = ServiceHost("head", "llm")
    assert asked.refusal("head.llm.svc.cluster.local", address) is None
    assert asked.refusal("HEAD.llm.svc.example.com.", address) is None
    assert "points on" in str(asked.refusal("head.llm.svc.svc.cluster.local", address))


@pytest.mark.parametrize("name", ["metadata.google.internal", "metadata", "METADATA.google.internal.", "metadata.goog"])
def test_metadata_names_are_never_read_whatever_they_stand_for(name: str) -> None:
    assert TargetRules(AllowList.of([".google.internal", "10.0.0.0/8"])).refusal(name, as_address("10.0.0.1"))


def test_this_machine_is_read_only_beside_its_own_dashboard() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"):
        assert refusal(TargetRules(), host) == "is leadtime's own machine"
        assert refusal(TargetRules(loopback=True), host) is None


def test_the_nodes_of_a_listed_service_may_be_anywhere_in_the_network() -> None:
    for host in ("10.0.0.7", "192.168.1.2", "100.64.0.1", "34.1.2.3", "fd12::1", "ray-worker-7.example.com"):
        assert refusal(TargetRules(), host) is None


def test_in_kubernetes_only_pods_of_that_ray_cluster_are_read() -> None:
    rules = TargetRules(AllowList.of(["10.9.0.0/16", "tpu.example.com", ".ray.example.com"]), pods=lambda: POD)
    for host in ("10.0.0.7", "fd12::1", "fd12:0:0::1", "10.9.1.1", "tpu.example.com", "a.ray.example.com"):
        assert refusal(rules, host) is None
    for host in ("10.0.0.8", "34.1.2.3", "other-head-svc.other.svc", "ray.example.com", "xtpu.example.com"):
        assert "pod" in str(refusal(rules, host)), host
    assert "cannot be listed" in str(refusal(TargetRules(pods=lambda: None), "10.0.0.7"))


POD = frozenset(["10.0.0.7", "fd12::1"])


@pytest.mark.parametrize(
    ("real", "address", "allowed"),
    [
        ("head.llm.svc.cluster.local", "10.96.0.1", True),
        ("head.llm.svc", "10.0.0.7", True),
        ("HEAD.llm.svc.cluster.local.", "10.0.0.7", True),
        ("head.other.svc.cluster.local", "10.0.0.7", False),
        ("victim-head-svc.llm.svc.cluster.local", "10.0.0.7", False),
        ("head.llm.svcx.example.com", "10.0.0.7", False),
        ("example.com", "34.1.2.3", False),
        ("far.example.com", "34.1.2.3", True),
        ("elsewhere", "10.9.1.1", True),
        ("head.llm.svc.cluster.local", "127.0.0.1", False),
        ("", "10.0.0.7", False),
    ],
)
def test_a_service_that_points_on_to_another_host_is_not_followed(real: str, address: str, allowed: bool) -> None:
    found = as_address(address)
    assert found is not None
    head = ServiceHost("head", "llm", AllowList.of(["10.9.0.0/16", "far.example.com"]))
    assert (head.refusal(real, found) is None) == allowed


@pytest.mark.parametrize("entry", ["", "10.0.0.0/33", "10.0.0.1/8", "a b", "*.x", "..", "http://x", "10.0.0", "a/8"])
def test_an_allow_list_takes_networks_and_hosts_only(entry: str) -> None:
    with pytest.raises(ConfigError, match="allowed: a network"):
        AllowList.of([entry])
