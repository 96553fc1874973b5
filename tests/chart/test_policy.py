"""What a cluster administrator asks of a chart: least rights, a restricted pod, closed network, nothing left over."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from typing import Any

import pytest
import yaml

from tests.chart.chart import CASES, CHART, ROOT, Doc, of_kind, one, pod_specs, render, settings, values_of
from tests.fakes.kubernetes.rbac import Attributes, Rbac
from tests.fakes.kubernetes.status import ApiError

WRITES = {"create", "update", "patch", "delete", "deletecollection"}
ACCOUNT = "system:serviceaccount:lt:demo-leadtime"
LIVE = {"config": {"dry_run": False}}
WAYS = ("placeholder", "capacity_buffer", "worker_group", "request_resources", "node_pool", "provisioning_request")


HOOK = "helm.sh/hook"


@contextmanager
def answering(pages: Mapping[str, int]) -> Iterator[str]:
    """A server on loopback that answers each page with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(pages[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def table(docs: list[Doc], hooks: bool = False) -> set[tuple[str, str, str, str, str, str]]:
    """Every right: (kind of role, namespace, group, resource, names, verb). `hooks`: those that only hooks have."""
    found = set()
    for role in (*of_kind(docs, "Role"), *of_kind(docs, "ClusterRole")):
        if (HOOK in role["metadata"].get("annotations", {})) != hooks:
            continue
        for rule in role["rules"]:
            names = ",".join(rule.get("resourceNames", ()))
            place = role["metadata"].get("namespace", "")
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found |= {(role["kind"], place, group, resource, names, verb) for verb in rule["verbs"]}
    return found


def rights(place: str, group: str, resource: str, names: str, *verbs: str) -> set[tuple[str, str, str, str, str, str]]:
    return {("Role", place, group, resource, names, verb) for verb in verbs}


DISCOVERY = {
    *rights("lt", "ray.io", "rayservices", "", "list", "watch"),
    *rights("lt", "ray.io", "rayclusters", "", "list", "watch"),
    *rights("lt", "", "configmaps", "demo-leadtime-pause", "get"),
    *rights("lt", "coordination.k8s.io", "leases", "demo-leadtime", "get", "update"),
    *rights("lt", "", "pods", "", "list", "watch"),
}
EVENTS = rights("lt", "events.k8s.io", "events", "", "create", "patch")
LEASE = rights("lt", "coordination.k8s.io", "leases", "demo-leadtime", "get", "update")
"""Part of DISCOVERY: also one pod is elected."""
OF_SERVICES = {right for right in DISCOVERY if right[3] in ("rayservices", "rayclusters", "pods")}


def in_namespace(name: str) -> set[Any]:
    """What a watched namespace beside its own needs."""
    return {(kind, name, *rest) for kind, _, *rest in OF_SERVICES | EVENTS}


PODS = {
    *rights("lt", "", "pods", "", "list", "watch"),
    *rights("lt", "events.k8s.io", "events", "", "list", "watch"),
}
NODES = {("ClusterRole", "", "", "nodes", "", verb) for verb in ("list", "watch")}


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, DISCOVERY),
        (LIVE, DISCOVERY | EVENTS),
        (LIVE | {"watchNamespaces": ["lt", "b"]}, DISCOVERY | EVENTS | in_namespace("b")),
        (LIVE | {"watchNamespaces": ["b"]}, DISCOVERY - OF_SERVICES | EVENTS | in_namespace("b")),
        ({"config": {"dry_run": False, "kubernetes": {"events": False}}}, DISCOVERY),
        ({"replicas": 2}, DISCOVERY),
        ({"replicas": 2, **LIVE}, DISCOVERY | EVENTS),
        ({"config": {"leader_election": {"enabled": False}}}, DISCOVERY - LEASE),
        ({"config": {"kubernetes": {"nodes": True}}}, DISCOVERY | NODES | PODS),
        ({"discovery": False, "config": {"services": [{"dashboard": "http://ray:8265"}]}}, set()),
        ({"rbac": {"create": False}}, set()),
    ],
)  # fmt: skip
def test_the_rights_are_exactly_those_that_the_mode_needs(values: dict[str, Any], wanted: set[Any]) -> None:
    assert table(render(values)) == wanted


@pytest.mark.parametrize("values", [{}, {"replicas": 2}, {"config": {"kubernetes": {"nodes": True}}}])
def test_in_dry_run_nothing_can_be_written_but_its_own_lease(values: dict[str, Any]) -> None:
    writes = {right for right in table(render(values)) if right[5] in WRITES}
    assert {right[3] for right in writes} <= {"leases"}


@pytest.mark.parametrize("case", CASES)
def test_no_right_is_a_wildcard_or_reaches_secrets_or_escalates(case: str) -> None:
    for _, _, group, resource, _, verb in table(render(values_of(case))):
        assert "*" not in (group, resource, verb)
        assert resource not in ("secrets", "pods/exec", "serviceaccounts/token")
        assert verb not in ("escalate", "bind", "impersonate", "deletecollection")


def test_every_watched_namespace_has_a_role_and_a_binding_and_no_other_place_has() -> None:
    docs = render({"watchNamespaces": ["a", "b"]})
    for kind in ("Role", "RoleBinding"):
        assert {d["metadata"]["namespace"] for d in of_kind(docs, kind)} == {"a", "b", "lt"}
    assert not of_kind(docs, "ClusterRole")
    assert not of_kind(docs, "ClusterRoleBinding")


def test_only_reading_nodes_needs_a_right_on_the_whole_cluster() -> None:
    for case in CASES:
        cluster = of_kind(render(values_of(case)), "ClusterRole")
        verbs = {verb for role in cluster for rule in role["rules"] for verb in rule["verbs"]}
        assert verbs <= {"list", "watch"}
        assert bool(cluster) == (case in ("replicas", "prewarm"))


@pytest.mark.parametrize("case", CASES)
def test_every_binding_leads_to_a_role_and_to_the_account_of_the_pod(case: str) -> None:
    docs = render(values_of(case))
    rbac = Rbac.from_documents(docs)
    assert set(rbac.granted) <= {ACCOUNT}
    assert one(docs, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "demo-leadtime"


def test_the_fake_api_server_enforces_the_rendered_rights() -> None:
    rbac = Rbac.from_documents(render({"replicas": 2, **LIVE}))
    rbac.check(Attributes(ACCOUNT, "watch", "ray.io", "rayservices", "lt", ""))
    rbac.check(Attributes(ACCOUNT, "update", "coordination.k8s.io", "leases", "lt", "demo-leadtime"))
    for verb, group, resource, namespace, name in (
        ("patch", "ray.io", "rayservices", "lt", "chat"),
        ("list", "ray.io", "rayservices", "other", ""),
        ("update", "coordination.k8s.io", "leases", "lt", "somebody-elses"),
        ("get", "", "secrets", "lt", "token"),
    ):
        with pytest.raises(ApiError):
            rbac.check(Attributes(ACCOUNT, verb, group, resource, namespace, name))


CLUSTER_WIDE = {
    "ClusterRole", "ClusterRoleBinding", "PriorityClass",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {},
        LIVE,
        {"replicas": 3, **LIVE, "persistence": {"enabled": False}},
        {"watchNamespaces": ["lt"], **LIVE},
        {"persistence": {"enabled": True}, "keepState": True},
        {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}},
        {"config": {"dry_run": False, "node_pools": [{"name": "h100"}], "mqtt": {"host": "mqtt"}}},
        values_of("listed"),
    ],
)
def test_it_installs_with_rights_in_its_own_namespace_alone(values: dict[str, Any]) -> None:
    docs = render(values)
    assert {doc["metadata"].get("namespace", "lt") for doc in docs} == {"lt"}
    assert not {doc["kind"] for doc in docs} & CLUSTER_WIDE
    written = [path.read_text("utf-8") for path in (CHART / "templates").iterdir()]
    assert not any('lookup "v1"' in text or 'lookup "apps/v1"' in text for text in written)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dry_run", [True, False])
def test_the_admission_policy_is_there_where_worker_groups_are_patched(way: str, dry_run: bool) -> None:
    values = prewarming(way, dry_run)
    assert bool(of_kind(render(values), "ValidatingAdmissionPolicy")) == (way == "worker_group")
    for enabled in (True, False):
        docs = render({**values, "admissionPolicy": {"enabled": enabled}})
        assert len(of_kind(docs, "ValidatingAdmissionPolicyBinding")) == 2 * enabled


@pytest.mark.parametrize("values", [{}, LIVE, {"replicas": 2}, {"persistence": {"enabled": True}}])
def test_a_pod_is_elected_also_when_it_is_alone(values: dict[str, Any]) -> None:
    docs = render(values)
    assert yaml.safe_load(settings(docs))["leader_election"]["enabled"] is True
    assert one(docs, "Lease")["metadata"]["name"] == "demo-leadtime"
    assert table(docs) >= LEASE


def test_state_can_outlive_the_release() -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    values = {"persistence": {"enabled": True}}
    for kind, name in (("PersistentVolumeClaim", "demo-leadtime"), ("ConfigMap", "demo-leadtime-pause")):
        assert one(render({**values, "keepState": True}), kind, name)["metadata"]["annotations"] == keep
        assert "annotations" not in one(render(values), kind, name)["metadata"]


def test_what_is_set_on_a_pod_goes_before_what_the_chart_sets_and_the_rest_stays() -> None:
    values = {
        "podSecurityContext": {"fsGroup": 1000650000, "supplementalGroups": [7]},
        "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}},
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.1"]},
        "initContainers": [{"name": "wait", "image": "a"}],
        "extraContainers": [{"name": "beside", "image": "a"}],
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
        "image": {"registry": "mirror.example/hub", "tag": "1"},
        "commonAnnotations": {"owner": "llm"},
        "deploymentAnnotations": {"a": "b"},
    }
    docs = render({**values, **prewarming("placeholder", dry_run=False)})
    deployment = one(docs, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["strategy"] == values["strategy"]
    assert deployment["metadata"]["annotations"] == {"owner": "llm", "a": "b"}
    assert [c["name"] for c in pod["containers"]] == ["leadtime", "beside"]
    assert [c["name"] for c in pod["initContainers"]] == ["wait"]
    assert pod["containers"][0]["image"] == "mirror.example/hub/leadtime:1"
    for spec in (pod, one(docs, "Job")["spec"]["template"]["spec"], one(docs, "Pod")["spec"]):
        assert (spec["dnsPolicy"], spec["dnsConfig"]) == ("None", values["dnsConfig"])
        assert spec["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 1000650000,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            "supplementalGroups": [7],
        }  # fmt: skip
        own = spec["containers"][0]["securityContext"]
        assert own["seccompProfile"]["type"] == "Localhost"
        assert own["capabilities"] == {"drop": ["ALL"]}
    assert all(doc["metadata"]["annotations"]["owner"] == "llm" for doc in docs)


def test_the_test_of_helm_reaches_the_service_through_the_network_policy() -> None:
    docs = render({"service": {"port": 9000}})
    pod, service, policy = one(docs, "Pod"), one(docs, "Service"), one(docs, "NetworkPolicy")
    labels = pod["metadata"]["labels"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"][-1] == "http://demo-leadtime.lt.svc:9000"
    assert not service["spec"]["selector"].items() <= labels.items()
    (rule,) = [rule for rule in policy["spec"]["ingress"] if "podSelector" in rule["from"][0]]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchExpressions"] == [
        {"key": "app.kubernetes.io/component", "operator": "NotIn", "values": ["test"]}
    ]
    assert not of_kind(render({"tests": {"enabled": False}}), "Pod")
    assert not of_kind(render({"replicas": 0}), "Pod")


def test_the_test_of_helm_passes_when_the_pages_answer_and_fails_when_they_do_not() -> None:
    *code, _ = one(render(), "Pod")["spec"]["containers"][0]["args"]
    for ready, wanted in ((200, 0), (503, 1)):
        with answering({"/healthz": 200, "/readyz": ready}) as url:
            done = subprocess.run([sys.executable, "-c", *code, url], capture_output=True, timeout=60, check=False)
            assert done.returncode == wanted, done.stderr


# ---------------------------------------------------------------- pre-warming


def prewarming(way: str, dry_run: bool) -> dict[str, Any]:
    warm = {"gke": {"project": "p", "location": "l", "cluster": "c"}} if way == "node_pool" else {}
    return {"config": {"dry_run": dry_run, "node_pools": [{"name": "h100", "prewarm": way, "warm": warm}]}}


def with_autoscalers(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "config": {**values["config"], "kubernetes": {"autoscalers": True}}}


@pytest.mark.parametrize("way", ["capacity_buffer", "provisioning_request"])
def test_buffers_and_requests_take_the_shape_of_a_replica_from_a_template(way: str) -> None:
    docs = render(prewarming(way, dry_run=False))
    template = one(docs, "PodTemplate", "demo-leadtime-warm-h100")["template"]["spec"]
    assert template["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] == 8
    assert "priorityClassName" not in template
    assert not of_kind(docs, "PriorityClass")
    buffers = of_kind(docs, "CapacityBuffer")
    assert [b["spec"] for b in buffers] == [
        {
            "provisioningStrategy": "buffer.x-k8s.io/active-capacity",
            "podTemplateRef": {"name": "demo-leadtime-warm-h100"},
            "replicas": 0,
        }
    ] * (way == "capacity_buffer")


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_prewarm_adds_its_own_rights_and_in_dry_run_no_write(way: str) -> None:
    name = "demo-leadtime-warm-h100"
    more = {
        "placeholder": {
            *rights("lt", "apps", "deployments", name, "get"),
            *rights("lt", "apps", "deployments/scale", name, "patch"),
        },
        "capacity_buffer": rights("lt", "autoscaling.x-k8s.io", "capacitybuffers", name, "get", "patch"),
        "worker_group": rights("lt", "ray.io", "rayservices", "", "get", "patch"),
        "provisioning_request": {
            *rights("lt", "autoscaling.x-k8s.io", "provisioningrequests", name, "get", "delete"),
            *rights("lt", "autoscaling.x-k8s.io", "provisioningrequests", "", "create"),
        },
    }.get(way, set())  # fmt: skip
    looks = DISCOVERY | NODES | PODS
    assert table(render(prewarming(way, dry_run=False))) == looks | EVENTS | more
    dry = table(render(prewarming(way, dry_run=True)))
    assert dry == looks | {right for right in more if right[5] not in WRITES}


def test_autoscaler_objects_add_their_own_rights_and_their_status_is_written_in_a_dry_run_too() -> None:
    base = prewarming("request_resources", dry_run=True)
    more = {
        *rights("lt", "leadtime.dev", "autoscalers", "", "list", "watch"),
        *rights("lt", "leadtime.dev", "autoscalers/status", "", "patch"),
    }
    assert table(render(with_autoscalers(base))) - table(render(base)) == more


def test_the_table_of_rights_in_the_docs_is_what_is_rendered_over_all_ways() -> None:
    page = (ROOT / "docs" / "rights.md").read_text(encoding="utf-8")
    section = page.split("## Rights")[1].split("## Network")[0]
    said = {
        (group, resource, verb)
        for group, resources, verbs in re.findall(r"`([\w.\"-]+)` ([\w/, ]+): ([\w, ]+)", section)
        for resource in resources.split(", ")
        for verb in verbs.strip().split(", ")
    }
    given = {
        (right[2] or '""', right[3], right[5])
        for way in WAYS
        for hooks in (False, True)
        for right in table(render({"replicas": 2, **with_autoscalers(prewarming(way, dry_run=False))}), hooks)
    }
    assert said == given


def test_uninstalling_gives_back_what_prewarming_holds() -> None:
    docs = render(prewarming("placeholder", dry_run=False))
    job = one(docs, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert (arguments[0], arguments[-1]) == ("release", "--pause")
    assert table(docs, hooks=True) == rights("lt", "", "configmaps", "demo-leadtime-pause", "get", "patch")
    assert job["spec"]["activeDeadlineSeconds"] == 120
    for spec in pod_specs(docs):
        check_restricted(spec)
    off = {**prewarming("placeholder", dry_run=False), "releaseHook": {"enabled": False}}
    assert not of_kind(render(off), "Job")
    assert not table(render(off), hooks=True)
    later = {**prewarming("placeholder", dry_run=False), "releaseHook": {"activeDeadlineSeconds": 300}}
    assert one(render(later), "Job")["spec"]["activeDeadlineSeconds"] == 300


def test_no_replicas_are_written_for_placeholders_that_the_controller_scales() -> None:
    """A tool that applies the chart again (helm, Argo CD) would set them back; in dry run no controller lowers the
    one that Kubernetes begins with."""
    name = "demo-leadtime-warm-h100"
    assert "replicas" not in one(render(prewarming("placeholder", dry_run=False)), "Deployment", name)["spec"]
    assert one(render(prewarming("placeholder", dry_run=True)), "Deployment", name)["spec"]["replicas"] == 0


def test_placeholders_ask_for_a_replicas_share_and_are_not_the_controllers_pods() -> None:
    docs = render(values_of("prewarm"))
    spec = one(docs, "Deployment", "demo-leadtime-warm-h100")["spec"]
    labels, pod = spec["template"]["metadata"]["labels"], spec["template"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert not one(docs, "Service")["spec"]["selector"].items() <= labels.items()
    assert not one(docs, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert spec["strategy"] == {"type": "Recreate"}
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "90", "memory": "800Gi", "nvidia.com/gpu": 4}
    assert [c["image"] for c in pod["initContainers"]] == ["rayproject/ray-llm:2.60.0-py311-cu128"]
    assert pod["terminationGracePeriodSeconds"] == 0
    priority = one(docs, "PriorityClass")
    assert (priority["value"], priority["globalDefault"]) == (-10, False)
    assert pod["priorityClassName"] == priority["metadata"]["name"]


@pytest.mark.parametrize(
    ("pool", "selector"),
    [
        ({}, {"cloud.google.com/gke-nodepool": "h100"}),
        ({"provisioner": "compute_class"}, {"cloud.google.com/compute-class": "h100"}),
        ({"provisioner": "autopilot", "gpu": "nvidia-l4"}, {"cloud.google.com/gke-accelerator": "nvidia-l4"}),
        ({"provisioner": "auto_provisioning", "gpu": "nvidia-l4"}, {"cloud.google.com/gke-accelerator": "nvidia-l4"}),
    ],
)
def test_placeholders_go_where_the_pools_nodes_come_from(pool: dict[str, Any], selector: dict[str, str]) -> None:
    values = {"config": {"node_pools": [{"name": "h100", "prewarm": "placeholder", **pool}]}}
    pod = one(render(values), "Deployment", "demo-leadtime-warm-h100")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == selector


def test_without_prewarming_there_is_no_hook() -> None:
    for case in CASES:
        assert bool(of_kind(render(values_of(case)), "Job")) == (case == "prewarm")


# ---------------------------------------------------------------- the pod


def check_restricted(spec: Doc) -> None:
    """The restricted Pod Security Standard, and a root file system that cannot be written."""
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["privileged"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
        assert not any("hostPort" in port for port in container.get("ports", ()))
    allowed = {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim", "name"}
    for volume in spec.get("volumes", ()):
        assert set(volume) <= allowed
        assert volume.get("emptyDir") is None or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    specs = pod_specs(render(values_of(case)))
    assert specs
    for spec in specs:
        check_restricted(spec)
        assert spec["enableServiceLinks"] is False


def test_the_account_token_is_mounted_only_where_the_api_is_used() -> None:
    assert one(render(), "ServiceAccount")["automountServiceAccountToken"] is False
    assert one(render(), "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    listed = one(render(values_of("listed")), "Deployment")["spec"]["template"]["spec"]
    assert listed["automountServiceAccountToken"] is False


def test_probes_ask_for_health_and_readiness_of_the_port_that_the_settings_name() -> None:
    docs = render({"config": {"server": {"port": 9999}}})
    (container,) = one(docs, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9999}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_one_pod_is_replaced_and_several_roll_spread_out_behind_a_disruption_budget() -> None:
    alone, several = one(render(), "Deployment")["spec"], one(render({"replicas": 2}), "Deployment")["spec"]
    assert alone["strategy"] == {"type": "Recreate"}
    assert not of_kind(render(), "PodDisruptionBudget")
    assert several["strategy"]["type"] == "RollingUpdate"
    spread = several["template"]["spec"]["topologySpreadConstraints"]
    assert [s["topologyKey"] for s in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert one(render({"replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_change_of_settings_rolls_the_pod() -> None:
    def checksum(values: dict[str, Any]) -> str:
        return str(one(render(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"podLabels": {"a": "b"}})
    assert checksum({}) != checksum({"config": {"tick_s": 6}}) != checksum({"files": {"p.yaml": "a"}})


def test_secrets_are_mounted_as_whole_folders_so_that_rotation_arrives() -> None:
    spec = one(render({"secrets": [{"name": "a.b"}]}), "Deployment")["spec"]["template"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/etc/leadtime/secrets/a.b"]
    assert mount["readOnly"] is True
    assert "subPath" not in mount
    (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
    assert volume["secret"] == {"secretName": "a.b", "defaultMode": 0o440}


# ---------------------------------------------------------------- who talks to whom


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_pods_they_mean(case: str) -> None:
    docs = render(values_of(case))
    deployment = one(docs, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    assert deployment["selector"]["matchLabels"].items() <= labels
    assert one(docs, "Service")["spec"]["selector"].items() <= labels
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        for doc in of_kind(docs, kind):
            own = doc["metadata"]["labels"].get("app.kubernetes.io/component") == "standby"
            pod = (
                one(docs, "Deployment", "demo-leadtime-standby")["spec"]["template"] if own else deployment["template"]
            )
            assert doc["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    for policy in of_kind(docs, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    for monitor in of_kind(docs, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= one(docs, "Service")["metadata"]["labels"].items()


def ports(policy: Doc, direction: str) -> set[int]:
    return {p["port"] for rule in policy["spec"][direction] for p in rule.get("ports", ())}


def test_the_network_is_closed_by_default_but_for_what_it_needs() -> None:
    policy = one(render(), "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert ports(policy, "ingress") == {8080}
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    assert ports(policy, "egress") == {53, 8265, 8080, 44217, 44227, 443, 6443}


@pytest.mark.parametrize(
    ("config", "port"),
    [
        ({"prometheus": {"url": "http://prometheus.monitoring:9090"}}, 9090),
        ({"prometheus": {"url": "https://prometheus.example/path"}}, 443),
        ({"services": [{"dashboard": "http://ray.elsewhere:18265"}]}, 18265),
        ({"services": [{"dashboard": "https://ray.elsewhere"}]}, 443),
    ],
)
def test_the_network_is_open_to_what_the_settings_name(config: dict[str, Any], port: int) -> None:
    assert port in ports(one(render({"config": config}), "NetworkPolicy"), "egress")


def test_without_discovery_the_kubernetes_api_is_out_of_reach() -> None:
    values = {"discovery": False, "config": {"services": [{"dashboard": "http://ray:8265"}]}}
    assert ports(one(render(values), "NetworkPolicy"), "egress") == {53, 8265, 8080, 44217, 44227}


def opened(values: dict[str, Any], port: int) -> list[Doc]:
    """The peers that may be reached on a port; {} = anyone."""
    rules = one(render(values), "NetworkPolicy")["spec"]["egress"]
    found = [rule for rule in rules if port in {p["port"] for p in rule["ports"]}]
    return [peer for rule in found for peer in rule.get("to", [{}])]


def namespace(name: str) -> Doc:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


@pytest.mark.parametrize("case", CASES)
def test_no_rule_of_the_network_is_open_to_anyone_by_default(case: str) -> None:
    for policy in of_kind(render(values_of(case)), "NetworkPolicy"):
        for rule in policy["spec"]["egress"]:
            assert rule["to"], rule
            assert all(peer and peer != {"podSelector": {}} for peer in rule["to"])
        for rule in policy["spec"]["ingress"]:
            assert rule["from"], rule


def test_the_network_leads_to_ray_in_the_watched_namespaces_and_to_private_addresses_of_the_api() -> None:
    peers = opened({"watchNamespaces": ["a", "b"]}, 8265)
    ray = {"podSelector": {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}}
    assert peers == [{**namespace(name), **ray} for name in ("a", "b")]
    cidrs = [ip_network(peer["ipBlock"]["cidr"]) for peer in opened({}, 6443)]
    assert cidrs
    assert all(cidr.is_private or str(cidr) == "100.64.0.0/10" for cidr in cidrs)
    assert opened({"networkPolicy": {"apiServerCidrs": []}}, 6443) == [{}]


@pytest.mark.parametrize(
    ("host", "peers"),
    [
        ("prometheus", [namespace("lt")]),
        ("prometheus.monitoring", [namespace("monitoring")]),
        ("Prometheus.monitoring.svc", [namespace("monitoring")]),
        ("prometheus.monitoring.svc.cluster.local.", [namespace("monitoring")]),
        ("pod-0.prometheus.monitoring.svc", [namespace("monitoring")]),
        ("192.0.2.7", [{"ipBlock": {"cidr": "192.0.2.7/32"}}]),
        ("[2001:db8::7]", [{"ipBlock": {"cidr": "2001:db8::7/128"}}]),
    ],
)
def test_the_network_is_open_to_the_host_that_the_settings_name_and_to_no_other(host: str, peers: list[Doc]) -> None:
    config = {
        "prometheus": {"url": f"http://{host}:9090"},
        "services": [{"dashboard": f"http://{host}:18265"}],
        "mqtt": {"host": host.strip("[]"), "port": 1234},
    }
    for port in (9090, 18265, 1234):
        assert opened({"config": config}, port) == peers


def test_a_name_outside_the_cluster_is_looked_for_anywhere_but_where_metadata_servers_are() -> None:
    peers = opened({"config": {"prometheus": {"url": "http://metrics.vendor.example:9090"}}}, 9090)
    assert {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}} in peers
    own = {"networkPolicy": {"prometheusTo": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}}
    values = {**own, "config": {"prometheus": {"url": "http://metrics.vendor.example:9090"}}}
    assert opened(values, 9090) == own["networkPolicy"]["prometheusTo"]


def test_an_upgrade_does_not_reset_the_kill_switch() -> None:
    assert "data" not in one(render(), "ConfigMap", "demo-leadtime-pause")


def test_the_lease_is_the_releases_and_says_nothing_so_that_an_upgrade_changes_no_leader() -> None:
    lease = one(render({"replicas": 2}), "Lease", "demo-leadtime")
    assert set(lease) == {"apiVersion", "kind", "metadata"}
    assert lease["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
    assert one(render(), "Lease")["metadata"]["name"] == "demo-leadtime"
