"""Every value: documented, typed, refused when wrong, and it changes what is rendered."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, get_args

import helm_python as helm
import pytest
import yaml

from autoscaler.core.types.pools import WAYS, Provisioner
from autoscaler.settings import load_config, settings_schema
from charts.generate.__main__ import ROOT, VALUES_PAGE
from charts.generate.files import generated_files, values_schema, with_fields, with_values
from charts.generate.values import VALUES
from tests.chart.chart import CASES, CHART, one, render, settings, values_of

Change = tuple[Any, dict[str, Any]]
_TWO = {"replicas": 2}
_WARM = {"config": {"dry_run": False, "node_pools": [{"name": "h100", "prewarm": "placeholder"}]}}
_PEER = [{"podSelector": {}}]

CHANGES: dict[str, Change] = {
    "nameOverride": ("other", {}),
    "fullnameOverride": ("other", {}),
    "commonLabels": ({"team": "llm"}, {}),
    "commonAnnotations": ({"a": "b"}, {}),
    "image.registry": ("mirror.example/hub", {}),
    "image.repository": ("registry.example/lt", {}),
    "image.tag": ("9.9.9", {}),
    "image.digest": ("sha256:" + "0" * 64, {}),
    "image.pullPolicy": ("Always", {}),
    "imagePullSecrets": ([{"name": "pull"}], {}),
    "replicas": (2, {}),
    "watchNamespaces": (["a", "b"], {}),
    "discovery": (False, {"config": {"services": [{"dashboard": "http://ray:8265"}]}}),
    "config": ({"tick_s": 7.5}, {}),
    "files": ({"mine.yaml": "version: 1\n"}, {}),
    "secrets": ([{"name": "token", "optional": True}], {}),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("somebody", {}),
    "serviceAccount.annotations": ({"iam.gke.io/gcp-service-account": "a@b"}, {}),
    "rbac.create": (False, {}),
    "admissionPolicy.enabled": (True, {}),
    "admissionPolicy.failurePolicy": ("Ignore", {"admissionPolicy": {"enabled": True}}),
    "resources": ({"limits": {"memory": "3Gi"}}, {}),
    "nodeSelector": ({"pool": "cpu"}, {}),
    "tolerations": ([{"key": "a", "operator": "Exists"}], {}),
    "affinity": ({"nodeAffinity": {}}, {}),
    "topologySpread.enabled": (False, _TWO),
    "topologySpread.constraints": (
        [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}], _TWO,
    ),
    "priorityClassName": ("system-cluster-critical", {}),
    "schedulerName": ("mine", {}),
    "runtimeClassName": ("gvisor", {}),
    "dnsPolicy": ("None", {}),
    "dnsConfig": ({"nameservers": ["192.0.2.1"]}, {}),
    "hostAliases": ([{"ip": "192.0.2.1", "hostnames": ["ray"]}], {}),
    "strategy": ({"type": "RollingUpdate"}, {}),
    "revisionHistoryLimit": (1, {}),
    "deploymentAnnotations": ({"a": "b"}, {}),
    "podSecurityContext": ({"supplementalGroups": [7]}, {}),
    "securityContext": ({"capabilities": {"add": ["NET_BIND_SERVICE"]}}, {}),
    "probes.startup": ({"periodSeconds": 5}, {}),
    "probes.liveness": ({"periodSeconds": 5}, {}),
    "probes.readiness": ({"periodSeconds": 9}, {}),
    "lifecycle": ({"preStop": {"sleep": {"seconds": 5}}}, {}),
    "podAnnotations": ({"a": "b"}, {}),
    "podLabels": ({"a": "b"}, {}),
    "runAsUser": (1000, {}),
    "hostUsers": (False, {}),
    "terminationGracePeriodSeconds": (60, {}),
    "persistence.enabled": (True, {}),
    "persistence.size": ("9Gi", {}),
    "persistence.storageClassName": ("fast", {"persistence": {"enabled": True}}),
    "persistence.accessModes": (["ReadWriteOncePod"], {"persistence": {"enabled": True}}),
    "persistence.existingClaim": ("mine", {"persistence": {"enabled": True}}),
    "standby.enabled": (True, {}),
    "standby.afterSeconds": (60, {"standby": {"enabled": True}}),
    "standby.caFile": ("/etc/ca.crt", {"standby": {"enabled": True}}),
    "service.type": ("NodePort", {}),
    "service.port": (80, {}),
    "keepState": (True, {}),
    "service.labels": ({"a": "b"}, {}),
    "service.annotations": ({"a": "b"}, {}),
    "podMonitor.enabled": (True, {}),
    "podMonitor.labels": ({"release": "x"}, {"podMonitor": {"enabled": True}}),
    "podMonitor.interval": ("5s", {"podMonitor": {"enabled": True}}),
    "podMonitor.scrapeTimeout": ("5s", {"podMonitor": {"enabled": True}}),
    "podMonitor.honorLabels": (False, {"podMonitor": {"enabled": True}}),
    "podMonitor.relabelings": ([{"targetLabel": "a", "replacement": "b"}], {"podMonitor": {"enabled": True}}),
    "podMonitor.metricRelabelings": ([{"action": "labeldrop", "regex": "le"}], {"podMonitor": {"enabled": True}}),
    "podMonitor.kind": ("PodMonitoring", {"podMonitor": {"enabled": True}}),
    "serviceMonitor.enabled": (True, {}),
    "serviceMonitor.labels": ({"release": "x"}, {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor.interval": ("5s", {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor.scrapeTimeout": ("5s", {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor.honorLabels": (False, {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor.relabelings": ([{"targetLabel": "a", "replacement": "b"}], {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor.metricRelabelings": ([{"action": "labeldrop"}], {"serviceMonitor": {"enabled": True}}),
    "prometheusRule.enabled": (True, {}),
    "prometheusRule.labels": ({"release": "x"}, {"prometheusRule": {"enabled": True}}),
    "prometheusRule.cluster": ("prod", {"prometheusRule": {"enabled": True}}),
    "prometheusRule.clusterLabel": ("k8s_cluster", {"prometheusRule": {"enabled": True}}),
    "prometheusRule.runbookBaseUrl": ("https://x.example", {"prometheusRule": {"enabled": True}}),
    "prometheusRule.disabled": (["LeadtimeCapped"], {"prometheusRule": {"enabled": True}}),
    "dashboards.enabled": (True, {}),
    "dashboards.labels": ({"a": "b"}, {"dashboards": {"enabled": True}}),
    "dashboards.annotations": ({"a": "b"}, {"dashboards": {"enabled": True}}),
    "networkPolicy.enabled": (False, {}),
    "networkPolicy.ingressFrom": (_PEER, {}),
    "networkPolicy.rayPorts": ([8265], {}),
    "networkPolicy.apiServerPorts": ([443], {}),
    "networkPolicy.apiServerCidrs": (["10.0.0.1/32"], {}),
    "networkPolicy.dnsTo": ([], {}),
    "networkPolicy.servicesTo": (_PEER, {"config": {"services": [{"dashboard": "http://ray.llm:8265"}]}}),
    "networkPolicy.mqttTo": (_PEER, {"config": {"mqtt": {"host": "mqtt.broker"}}}),
    "networkPolicy.prometheusTo": (_PEER, {"config": {"prometheus": {"url": "http://prometheus.monitoring:9090"}}}),
    "networkPolicy.extraIngress": ([{"from": _PEER}], {}),
    "networkPolicy.extraEgress": ([{"to": _PEER}], {}),
    "podDisruptionBudget.enabled": (False, _TWO),
    "podDisruptionBudget.maxUnavailable": ("50%", _TWO),
    "prewarm.image": ("pause:1", _WARM),
    "prewarm.prepull": (["ray:1"], _WARM),
    "prewarm.cpu": ("90", _WARM),
    "prewarm.memory": ("9Gi", _WARM),
    "prewarm.gpuResource": ("amd.com/gpu", _WARM),
    "prewarm.nodeSelector": ({"a": "b"}, _WARM),
    "prewarm.tolerations": ([], _WARM),
    "prewarm.bufferVersion": (
        "v1alpha1", {"config": {"node_pools": [{"name": "h100", "prewarm": "capacity_buffer"}]}}
    ),
    "prewarm.priorityClassName": ("low", _WARM),
    "prewarm.pools": ({"h100": {"cpu": "90"}}, _WARM),
    "releaseHook.enabled": (False, _WARM),
    "releaseHook.activeDeadlineSeconds": (300, _WARM),
    "autoscalers.createDefinition": (False, {"config": {"kubernetes": {"autoscalers": True}}}),
    "tests.enabled": (False, {}),
    "logJson": (False, {}),
    "extraArgs": (["--once"], {}),
    "extraEnv": ([{"name": "A", "value": "b"}], {}),
    "extraEnvFrom": ([{"secretRef": {"name": "a"}}], {}),
    "initContainers": ([{"name": "wait", "image": "a"}], {}),
    "extraContainers": ([{"name": "beside", "image": "a"}], {}),
    "extraVolumes": ([{"name": "a", "emptyDir": {}}], {}),
    "extraVolumeMounts": ([{"name": "tmp", "mountPath": "/other"}], {}),
    "extraObjects": ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}], {}),
}  # fmt: skip
"""For every value another one than the default, and the values that it needs beside it."""


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    *above, name = key.split(".")
    node = changed
    for block in above:
        node = node.setdefault(block, {})
    node[name] = {**node.get(name, {}), **value} if name == "config" else value
    return changed


def test_every_value_has_a_change_here() -> None:
    assert set(CHANGES) == {value.key for value in VALUES}


@pytest.mark.parametrize("key", CHANGES)
def test_every_value_lints_and_changes_what_is_rendered(key: str) -> None:
    value, beside = CHANGES[key]
    before = render(beside)
    changed = put(beside, key, value)
    report = helm.lint(str(CHART), changed, strict=True, namespace="lt")
    assert report["errors"] == []
    assert render(changed) != before


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.key)
def test_a_value_of_the_wrong_type_is_refused_by_name(value: Any) -> None:
    with pytest.raises(helm.HelmValuesError, match=value.key.rpartition(".")[2]):
        render(put({}, value.key, 1.5 if value.key != "config" else {"tick_s": "soon"}))


def test_an_unknown_value_is_refused_at_every_depth() -> None:
    for values in ({"replica": 2}, {"image": {"tags": "1"}}, {"config": {"dryrun": True}}):
        with pytest.raises(helm.HelmValuesError, match="additional properties"):
            render(values)


def test_what_the_settings_refuse_the_chart_refuses() -> None:
    for config in (
        {"tick_s": 0.1},
        {"deployments": [{"match": "a/b"}]},
        {"services": [{"dashboard": "ftp://x"}]},
        {"node_pools": [{"name": "a b"}]},
    ):
        with pytest.raises(helm.HelmValuesError, match="/config"):
            render({"config": config})


def pools(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"config": {"node_pools": list(entries)}}


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("provisioner", get_args(Provisioner))
def test_the_chart_refuses_a_way_where_the_settings_do(way: str, provisioner: str) -> None:
    values = pools({"name": "h100", "prewarm": way, "provisioner": provisioner, "gpu": "nvidia-l4"})
    if provisioner in WAYS[way].places:
        assert render(values)
    else:
        with pytest.raises(helm.HelmError, match=f"prewarm {way} does not work where nodes come from {provisioner}"):
            render(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 2, "config": {"leader_election": {"enabled": False}}}, "replicas: more than one needs"),
        ({"replicas": 2, "persistence": {"enabled": True}}, "persistence.enabled: allowed with replicas 1 only"),
        ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "one of the two"),
        ({"replicas": 2, "discovery": False, "config": {"services": [{"dashboard": "http://r"}]}}, "discovery true"),
        ({"config": {"kubernetes": {"watch_namespaces": ["x"]}}}, "are set by the chart"),
        ({"config": {"server": {"host": "127.0.0.1"}}}, "config.server.host: the kubelet's probes"),
        ({"config": {"server": {"port": 0}}}, "config.server.port: a fixed port"),
        ({"discovery": False}, "config.services: empty"),
        ({"prometheusRule": {"disabled": ["LeadtimeCaped"]}}, "LeadtimeCaped"),
        (pools({"name": "a_b", "prewarm": "placeholder"}), "would have an object .demo-leadtime-warm-a_b"),
        (pools({"name": "a:b", "prewarm": "capacity_buffer"}), "is no label value of Kubernetes"),
        (
            pools(*({"name": n, "prewarm": "placeholder", "warm": {"object": "same"}} for n in ("a", "b"))),
            "one object .same",
        ),
        ({"files": {"leadtime.yaml": "x"}}, "files: leadtime.yaml is the settings file"),
        ({"secrets": [{"name": "a.b"}, {"name": "a-b"}]}, "secrets: .a-b.: the volume .secret-a-b. is there already"),
        ({"secrets": [{"name": "a"}, {"name": "a"}]}, "secrets: .a.: the volume .secret-a. is there already"),
        ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "extraVolumes: the volume .tmp. is there already"),
        ({"extraVolumeMounts": [{"name": "tmp", "mountPath": "/tmp/"}]}, "extraVolumeMounts: the mount path ./tmp."),
        ({"extraVolumeMounts": [{"name": "no", "mountPath": "/a"}]}, "extraVolumeMounts: there is no volume .no."),
        ({"extraEnv": [{"name": "POD_NAME", "value": "a"}]}, "extraEnv: the variable .POD_NAME. is there already"),
        ({"extraContainers": [{"name": "leadtime"}]}, "extraContainers: the container .leadtime. is there already"),
        (
            {"commonLabels": {"app.kubernetes.io/name": "x"}},
            "commonLabels: the label .app.kubernetes.io/name. is set by",
        ),
        (
            {"standby": {"enabled": True}, "discovery": False, "config": {"services": []}},
            "standby.enabled: the standby holds a lease of its own",
        ),
        (
            {"podLabels": {"app.kubernetes.io/component": "x"}},
            "podLabels: the label .app.kubernetes.io/component. is set",
        ),
        ({"podLabels": {"a": "x"}, "commonLabels": {"a": "y"}}, "podLabels: the label .a. is in commonLabels too"),
        ({"podAnnotations": {"checksum/config": "x"}}, "podAnnotations: the annotation .checksum/config. is set by"),
        ({"commonAnnotations": {"helm.sh/hook": "test"}}, "commonAnnotations: the annotation .helm.sh/hook. is set by"),
        ({"prewarm": {"pools": {"h200": {}}}, **pools({"name": "h100"})}, "prewarm.pools: .h200. is no pool"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_mend(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError, match=words):
        render(values)


# ---------------------------------------------------------------- generated


def test_generated_files_are_up_to_date() -> None:
    for name, text in generated_files():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run python -m charts.generate"


def test_the_values_table_in_the_docs_is_up_to_date() -> None:
    document = VALUES_PAGE.read_text(encoding="utf-8")
    assert with_values(document) == document, "run: python -m charts.generate"


def test_the_fields_in_the_docs_are_up_to_date() -> None:
    document = (ROOT / "docs" / "autoscalers.md").read_text(encoding="utf-8")
    assert with_fields(document) == document, "run: python -m charts.generate"


def test_the_schema_of_config_is_that_of_the_settings() -> None:
    schema, of_settings = values_schema(), settings_schema()
    assert schema["properties"]["config"]["properties"] == of_settings["properties"]
    assert schema["$defs"] == of_settings["$defs"]
    written = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert written["properties"]["config"]["properties"] == of_settings["properties"]


# ---------------------------------------------------------------- the settings file in the ConfigMap


@pytest.mark.parametrize("case", CASES)
def test_the_settings_in_the_configmap_are_accepted_as_they_are(case: str, tmp_path: Path) -> None:
    path = tmp_path / "leadtime.yaml"
    path.write_text(settings(render(values_of(case))), encoding="utf-8")
    config = load_config(path, look_at_files=False)
    given = values_of(case).get("config", {})
    assert config.controller.dry_run is given.get("dry_run", True)
    assert str(config.state_path) == "/var/lib/leadtime/leadtime.sqlite"


def test_settings_come_through_helm_unchanged() -> None:
    given = {
        "tick_s": 2.5,
        "dry_run": False,
        "journal": {"max_bytes": 12345678901},
        "policy": {"name": "predictive", "options": {"a": 1e-07, "b": "012", "c": "yes", "d": [1, 2.0, None]}},
        "deployments": [
            {"match": "*/*/chat/LLMServer:*", "replicas": {"max": 8}, "slo": {"ttft_s": None, "itl_s": 0.05}},
        ],
    }
    read = yaml.safe_load(settings(render({"config": given})))
    assert read["journal"] == {"max_bytes": 12345678901, "path": "/var/lib/leadtime/journal"}
    for key in ("tick_s", "dry_run", "policy", "deployments"):
        assert read[key] == given[key], key


def test_the_pages_may_be_asked_by_the_services_names_and_those_of_the_settings() -> None:
    assert yaml.safe_load(settings(render()))["server"]["hosts"] == [
        f"demo-leadtime{end}" for end in ("", ".lt", ".lt.svc", ".lt.svc.cluster.local")
    ]
    own = yaml.safe_load(settings(render({"config": {"server": {"hosts": ["leadtime.example.com"]}}})))
    assert own["server"]["hosts"][-1] == "leadtime.example.com"
    assert "demo-leadtime.lt.svc" in own["server"]["hosts"]


def test_probes_and_scrapes_speak_tls_where_the_pages_do() -> None:
    values = {"config": {"server": {"cert_file": "/etc/leadtime/secrets/tls/tls.crt"}}, "podMonitor": {"enabled": True}}
    docs = render(values)
    container = one(docs, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {container[f"{kind}Probe"]["httpGet"]["scheme"] for kind in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    assert one(docs, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"
    assert "scheme" not in str(render({"podMonitor": {"enabled": True}}))
