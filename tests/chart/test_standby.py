"""The standby's pod: its own lease, a roll-out that never leaves it out, and a way to the controller's pages alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autoscaler.cli import standby as command
from autoscaler.cli.parser import Parser
from autoscaler.wiring.standby import own_state_path
from tests.chart.chart import of_kind, one, render, settings, values_of


def standby() -> dict[str, Any]:
    return one(render(values_of("standby")), "Deployment", "demo-leadtime-standby")


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert [d["metadata"]["name"] for d in of_kind(render(values_of("live")), "Deployment")] == ["demo-leadtime"]


def test_a_release_that_crashes_at_start_leaves_the_old_standby_running() -> None:
    spec = standby()["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_no_pod_belongs_to_both_deployments_or_to_the_service() -> None:
    docs = render(values_of("standby"))
    controller = one(docs, "Deployment", "demo-leadtime")["spec"]["selector"]["matchLabels"]
    service = one(docs, "Service")["spec"]["selector"]
    labels = standby()["spec"]["template"]["metadata"]["labels"]
    assert not controller.items() <= labels.items()
    assert not service.items() <= labels.items()
    assert standby()["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_its_arguments_are_those_of_the_command() -> None:
    [container] = standby()["spec"]["template"]["spec"]["containers"]
    name, *rest = container["args"]
    parser = Parser(prog="leadtime standby")
    command.add_arguments(parser)
    args = parser.parse_args(rest)
    assert (name, args.after_s, args.port) == ("standby", 300.0, 8080)
    assert args.plan == "https://demo-leadtime.lt.svc:8080"
    assert str(args.token_file) == "/etc/leadtime/secrets/pages-token/token"


def test_it_has_a_lease_of_its_own_and_the_right_to_it() -> None:
    docs = render(values_of("standby"))
    assert {d["metadata"]["name"] for d in of_kind(docs, "Lease")} == {"demo-leadtime", "demo-leadtime-standby"}
    rules = one(docs, "Role", "demo-leadtime-own")["rules"]
    [leases] = [rule for rule in rules if rule["resources"] == ["leases"]]
    assert leases["resourceNames"] == ["demo-leadtime", "demo-leadtime-standby"]


def test_its_memory_of_what_is_paused_is_on_a_volume_that_outlives_its_container() -> None:
    pod = standby()["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    config = yaml.safe_load(settings(render(values_of("standby"))))
    file = own_state_path(Path(config["state"]["path"]))
    assert "readOnly" not in mounts[str(file.parent)]
    [volume] = [one for one in pod["volumes"] if one["name"] == mounts[str(file.parent)]["name"]]
    assert "emptyDir" in volume


def test_of_its_page_prometheus_keeps_what_no_controller_exports() -> None:
    monitor = one(render(values_of("standby")), "PodMonitor", "demo-leadtime-standby")
    assert (
        monitor["spec"]["selector"]["matchLabels"].items()
        <= standby()["spec"]["template"]["metadata"]["labels"].items()
    )
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [keep] = [one for one in endpoint["metricRelabelings"] if one["action"] == "keep"]
    assert keep == {"action": "keep", "sourceLabels": ["__name__"], "regex": "leadtime_stands_in"}
    labels = {one["targetLabel"] for one in endpoint["relabelings"]}
    assert {"controller_namespace", "controller_release"} <= labels
    managed = {**values_of("standby"), "podMonitor": {"enabled": True, "kind": "PodMonitoring"}}
    [endpoint] = one(render(managed), "PodMonitoring", "demo-leadtime-standby")["spec"]["endpoints"]
    assert endpoint["metricRelabeling"][0] == keep


def test_without_a_standby_there_is_no_monitor_of_it() -> None:
    assert len(of_kind(render(values_of("monitored")), "PodMonitor")) == 1


def test_the_state_s_volume_stays_the_controller_s() -> None:
    values = {**values_of("standby"), "persistence": {"enabled": True}}
    pod = one(render(values), "Deployment", "demo-leadtime-standby")["spec"]["template"]["spec"]
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
