"""Every value of the chart, declared once: key, default, JSON schema and meaning. Not for what templates do with it.

The settings of the controller itself are not repeated here: the schema of `config` is that of the settings model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_LINE: Schema = {"type": "string", "pattern": r"^[^\x00-\x1f\x7f]*$"}
_TEXT: Schema = {"type": "string", "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"}
_BOOL: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_KEY = "([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABELS: Schema = {
    "type": "object",
    "propertyNames": {"pattern": f"^{_KEY}$", "maxLength": 317},
    "additionalProperties": {
        "type": "string", "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", "maxLength": 63,
    },
}  # fmt: skip
_ANNOTATIONS: Schema = {**_LABELS, "additionalProperties": _TEXT}
_OBJECT_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_OBJECT_NAME_OR_EMPTY: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
_IMAGE: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-zA-Z0-9_./:@]*[a-zA-Z0-9])?$", "maxLength": 512}
_RESOURCE: Schema = {"type": "string", "pattern": f"^{_KEY}$", "maxLength": 317}
_CIDR: Schema = {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}
_PROBE: Schema = {
    "type": "object", "additionalProperties": False,
    "properties": {
        name: {"type": "integer", "minimum": least, "maximum": 3600}
        for name, least in (
            ("initialDelaySeconds", 0), ("periodSeconds", 1), ("timeoutSeconds", 1), ("failureThreshold", 1),
            ("successThreshold", 1), ("terminationGracePeriodSeconds", 1),
        )
    },
}  # fmt: skip
_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_NAME_OR_EMPTY: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63}
_SERVICE_NAME_OR_EMPTY: Schema = {"type": "string", "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63}
_QUANTITY: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_INTERVAL: Schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
_INTERVAL_OR_EMPTY: Schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))?$"}
_URL_OR_EMPTY: Schema = {"type": "string", "pattern": r"^(https?://[^\x00-\x20\x7f\"'<>\\]+)?$"}
_METRIC_LABEL: Schema = {"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}
_COUNT_OR_SHARE: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]}
_ACCESS: Schema = {"enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORTS: Schema = {"type": "array", "items": _PORT, "uniqueItems": True}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _names(schema: Schema = _NAME) -> Schema:
    return {"type": "array", "items": schema, "uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Value:
    """One value: dotted `key`, its `default`, the JSON schema of what is allowed, and its meaning in a sentence."""

    key: str
    default: Any
    schema: Schema
    meaning: str


def _monitor_options(monitor: str) -> tuple[Value, ...]:
    return (
        Value(f"{monitor}.scrapeTimeout", "", _INTERVAL_OR_EMPTY, "Of a scrape; empty = Prometheus' own."),
        Value(f"{monitor}.honorLabels", True, _BOOL, "Page's labels go before the target's; the rules work both ways."),
        Value(f"{monitor}.relabelings", [], _OBJECTS, "More relabelings of the target, after the chart's."),
        Value(f"{monitor}.metricRelabelings", [], _OBJECTS, "More relabelings of the metrics, after the chart's."),
    )


_MONITOR = "Make a {kind} for the Prometheus operator (its CRDs must be there)."

VALUES: tuple[Value, ...] = (
    Value("nameOverride", "", _NAME_OR_EMPTY, "Replaces the chart's name in the names of its objects."),
    Value("fullnameOverride", "", _SERVICE_NAME_OR_EMPTY, "Replaces the whole name of its objects."),
    Value("commonLabels", {}, _LABELS, "Labels for every object."),
    Value("commonAnnotations", {}, _ANNOTATIONS, "Annotations of every object except pods, which have `podAnnotations`."),
    Value(
        "image.registry", "",
        {"type": "string", "pattern": "^([a-z0-9]([-a-zA-Z0-9_./:]*[a-zA-Z0-9])?)?$", "maxLength": 255},
        "Goes before the repository, where a registry of your own mirrors others.",
    ),
    Value("image.repository", "leadtime", _IMAGE, "Your registry and the image's name."),
    Value("image.tag", "", {"type": "string", "pattern": "^[A-Za-z0-9_.-]*$"}, "Tag; empty = the chart's appVersion."),
    Value(
        "image.digest", "", {"type": "string", "pattern": "^(sha256:[a-f0-9]{64})?$"}, "Pins the image; goes before tag."
    ),
    Value("image.pullPolicy", "IfNotPresent", _one_of("Always", "IfNotPresent", "Never"), "When the image is pulled."),
    Value("imagePullSecrets", [], _OBJECTS, "Existing Secrets to pull the image with: a list of {name}."),
    Value(
        "replicas", 1, {"type": "integer", "minimum": 0, "maximum": 5},
        "Pods, of which one leads and the others run warm. 0 stops the controller; replicas stay as they are.",
    ),
    Value(
        "watchNamespaces", [], _names(),
        "Namespaces whose RayServices and RayClusters it looks after; empty = the release's own. One Role each.",
    ),
    Value(
        "discovery", True, _BOOL,
        "Find Ray through the Kubernetes API. false = only what config.services lists, without any right to the API.",
    ),
    Value(
        "config", {}, _OBJECT,
        "Settings of the controller, as in a settings file (docs/configuration.md); the chart adds what the pod needs.",
    ),
    Value(
        "files", {}, {
            "type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"}, "additionalProperties": _TEXT,
        },
        "More files beside the settings file, by name, such as engine profiles that config.deployments[].profile names.",
    ),
    Value(
        "secrets", [], {
            "type": "array",
            "items": {
                "type": "object", "required": ["name"], "additionalProperties": False,
                "properties": {"name": _OBJECT_NAME, "namespace": _NAME, "optional": _BOOL, "items": _OBJECTS},
            },
        },
        "Existing Secrets, mounted as files /etc/leadtime/secrets/NAME/KEY for token_file, ca_file and the like; "
        "with `namespace` as /etc/leadtime/secrets/NAMESPACE/NAME/KEY, where tokens of found Ray clusters of that "
        "namespace are looked for. Read again when they change.",
    ),
    Value("serviceAccount.create", True, _BOOL, "Make a ServiceAccount; false = use an existing one."),
    Value("serviceAccount.name", "", _NAME_OR_EMPTY, "Its name; empty = the objects' name (or `default`)."),
    Value("serviceAccount.annotations", {}, _ANNOTATIONS, "Annotations of the ServiceAccount, such as for Workload Identity."),
    Value("rbac.create", True, _BOOL, "Make Roles and RoleBindings; false = you grant the rights of docs/rights.md."),
    Value(
        "admissionPolicy.enabled", None, {"type": ["boolean", "null"]},
        "A ValidatingAdmissionPolicy (needs rights in the whole cluster): this account may change worker counts of ray.io "
        "objects only. null = where a pool is pre-warmed by `worker_group`, which needs the right to patch them.",
    ),
    Value("admissionPolicy.failurePolicy", "Fail", _one_of("Fail", "Ignore"), "What happens when it cannot be evaluated."),
    Value(
        "autoscalers.createDefinition", True, {"type": "boolean"},
        "Where `config.kubernetes.autoscalers` is on, also make the definition of Autoscaler objects (needs rights in the "
        "whole cluster); false for a second release. It stays after an uninstall, with all objects.",
    ),
    Value(
        "resources", {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}, _OBJECT,
        "Of the container; no CPU limit, since a throttled controller is a late one.",
    ),
    Value("nodeSelector", {}, _LABELS, "Of the pod."),
    Value("tolerations", [], _OBJECTS, "Of the pod."),
    Value("affinity", {}, _OBJECT, "Of the pod."),
    Value(
        "topologySpread.enabled", True, _BOOL, "With more than one pod: spread them over zones and hosts where possible."
    ),
    Value("topologySpread.constraints", [], _OBJECTS, "Replace the two constraints; labelSelector is added where missing."),
    Value("priorityClassName", "", _OBJECT_NAME_OR_EMPTY, "Of the pods."),
    Value("schedulerName", "", _OBJECT_NAME_OR_EMPTY, "Of the pods."),
    Value("runtimeClassName", "", _OBJECT_NAME_OR_EMPTY, "Of the pods."),
    Value(
        "dnsPolicy", "", _one_of("", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"), "Of the pods.",
    ),
    Value("dnsConfig", {}, _OBJECT, "Of the pods."),
    Value("hostAliases", [], _OBJECTS, "Of the pods."),
    Value(
        "strategy", {}, _OBJECT,
        "Of the Deployment; empty = RollingUpdate with several pods, and Recreate with one, whose volume must be free.",
    ),
    Value("revisionHistoryLimit", 3, {"type": "integer", "minimum": 0, "maximum": 100}, "Of the Deployment."),
    Value("deploymentAnnotations", {}, _ANNOTATIONS, "Of the Deployment."),
    Value("podAnnotations", {}, _ANNOTATIONS, "Of the pod."),
    Value("podLabels", {}, _LABELS, "Of the pod."),
    Value("podSecurityContext", {}, _OBJECT, "Lies over the chart's, of every pod (the `restricted` standard)."),
    Value("securityContext", {}, _OBJECT, "Lies over the chart's, of every container."),
    Value("probes.startup", {"periodSeconds": 2, "failureThreshold": 60}, _PROBE, "Times of the startup probe."),
    Value(
        "probes.liveness", {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}, _PROBE,
        "Times of the liveness probe.",
    ),
    Value("probes.readiness", {"periodSeconds": 5, "timeoutSeconds": 5}, _PROBE, "Times of the readiness probe."),
    Value("lifecycle", {}, _OBJECT, "Hooks of the container."),
    Value("runAsUser", 65532, {"type": "integer", "minimum": 1}, "User, group and fsGroup of the pod; never 0."),
    Value("hostUsers", None, {"type": ["boolean", "null"]}, "false = a user namespace of its own (Kubernetes 1.33+)."),
    Value(
        "terminationGracePeriodSeconds", 30, {"type": "integer", "minimum": 10, "maximum": 600},
        "Time to finish the tick, save and release the lease.",
    ),
    Value("persistence.enabled", False, _BOOL, "Keep what was learned and the journal on a volume (one pod only)."),
    Value("persistence.size", "2Gi", _QUANTITY, "Of the volume, or of the pod's own scratch folder without one."),
    Value("persistence.storageClassName", None, {**_OBJECT_NAME_OR_EMPTY, "type": ["string", "null"]}, "Of the claim; null = the cluster's default."),
    Value("persistence.accessModes", ["ReadWriteOnce"], {"type": "array", "items": _ACCESS, "minItems": 1}, "Of the claim."),
    Value("persistence.existingClaim", "", _OBJECT_NAME_OR_EMPTY, "Use this claim instead of making one."),
    Value(
        "keepState", False, _BOOL,
        "An uninstall leaves the claim and the kill switch (helm.sh/resource-policy: keep); the next install takes them over.",
    ),
    Value(
        "standby.enabled", False, _BOOL,
        "A second pod that raises levels while the controller is gone, and lowers nothing (docs/operations.md).",
    ),
    Value(
        "standby.afterSeconds", 120, {"type": "integer", "minimum": 5, "maximum": 86400},
        "Silence of the controller after which the standby acts.",
    ),
    Value(
        "standby.caFile", "", {"type": "string", "pattern": "^(/[^\\s\"'\\\\]*)?$"},
        "File in the pod with certificates (PEM) to trust, where the controller's pages speak TLS.",
    ),
    Value("service.type", "ClusterIP", _one_of("ClusterIP", "NodePort", "LoadBalancer"), "Of the Service."),
    Value("service.port", 8080, _PORT, "Of the Service."),
    Value("service.annotations", {}, _ANNOTATIONS, "Of the Service."),
    Value("service.labels", {}, _LABELS, "Of the Service."),
    Value("podMonitor.enabled", False, _BOOL, _MONITOR.format(kind="PodMonitor") + " Preferred: it sees followers too."),
    Value("podMonitor.labels", {}, _LABELS, "Labels by which your Prometheus finds it."),
    Value("podMonitor.interval", "15s", _INTERVAL, "Between two scrapes."),
    *_monitor_options("podMonitor"),
    Value("podMonitor.kind", "PodMonitor", _one_of("PodMonitor", "PodMonitoring"), "PodMonitoring = Google Managed Prometheus."),
    Value("serviceMonitor.enabled", False, _BOOL, _MONITOR.format(kind="ServiceMonitor") + " Not both."),
    Value("serviceMonitor.labels", {}, _LABELS, "Labels by which your Prometheus finds it."),
    Value("serviceMonitor.interval", "15s", _INTERVAL, "Between two scrapes."),
    *_monitor_options("serviceMonitor"),
    Value("prometheusRule.enabled", False, _BOOL, _MONITOR.format(kind="PrometheusRule") + " Recording rules and alerts."),
    Value("prometheusRule.labels", {}, _LABELS, "Labels by which your Prometheus finds it."),
    Value(
        "prometheusRule.cluster", "", {"type": "string", "pattern": "^[A-Za-z0-9][-A-Za-z0-9_./:]*$|^$", "maxLength": 253},
        "This cluster, as one Prometheus (or Thanos, Mimir) that evaluates rules for several has it in its label; "
        "empty = it sees this cluster alone.",
    ),
    Value("prometheusRule.clusterLabel", "cluster", _METRIC_LABEL, "That label's name."),
    Value("prometheusRule.runbookBaseUrl", "", _URL_OR_EMPTY, "Goes before the runbooks' paths (docs/runbooks/NAME.md)."),
    Value("prometheusRule.disabled", [], _names({"type": "string", "pattern": "^[A-Za-z0-9]+$"}), "Alerts to leave out, by name."),
    Value("dashboards.enabled", False, _BOOL, "A ConfigMap with the Grafana dashboards for Grafana's sidecar."),
    Value("dashboards.labels", {"grafana_dashboard": "1"}, _LABELS, "Labels by which the sidecar finds it."),
    Value("dashboards.annotations", {}, _ANNOTATIONS, "Annotations of the dashboards, such as the folder."),
    Value("networkPolicy.enabled", True, _BOOL, "Let in only what asks for pages, let out only what it needs."),
    Value(
        "networkPolicy.ingressFrom", [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        _OBJECTS, "Who may read its pages (NetworkPolicy peers).",
    ),
    Value(
        "networkPolicy.rayPorts", [8265, 8080, 44217, 44227], _PORTS,
        "Ports of Ray pods: dashboard, metrics pages of nodes, of the autoscaler and of the dashboard.",
    ),
    Value(
        "networkPolicy.dnsTo", [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchExpressions": [
                    {"key": "k8s-app", "operator": "In", "values": ["kube-dns", "node-local-dns", "coredns"]},
                ]},
            },
            {"ipBlock": {"cidr": "169.254.0.0/16"}},
        ], _OBJECTS,
        "Who answers names (peers): kube-dns, and the link-local addresses of NodeLocal DNSCache and Cloud DNS; "
        "empty = anyone on port 53.",
    ),
    Value("networkPolicy.apiServerPorts", [443, 6443], _PORTS, "Ports of the Kubernetes API."),
    Value(
        "networkPolicy.apiServerCidrs", ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
        _names(_CIDR),
        "Addresses of the Kubernetes API, which is no pod: `kubectl get endpoints kubernetes` shows them; "
        "empty = any address on those ports.",
    ),
    Value(
        "networkPolicy.servicesTo", [], _OBJECTS,
        "Where config.services are (peers); empty = the namespace or the address in their URLs.",
    ),
    Value("networkPolicy.prometheusTo", [], _OBJECTS, "Where Prometheus is (peers); empty = as its URL says."),
    Value("networkPolicy.mqttTo", [], _OBJECTS, "Where the MQTT broker is (peers); empty = as config.mqtt.host says."),
    Value("networkPolicy.extraIngress", [], _OBJECTS, "More ingress rules."),
    Value("networkPolicy.extraEgress", [], _OBJECTS, "More egress rules."),
    Value("podDisruptionBudget.enabled", True, _BOOL, "With more than one pod: keep drains from taking all at once."),
    Value("podDisruptionBudget.maxUnavailable", 1, _COUNT_OR_SHARE, "Pods that a drain may take at once."),
    Value("prewarm.image", "registry.k8s.io/pause:3.10", _IMAGE, "Of placeholder pods; it does nothing."),
    Value("prewarm.prepull", [], _names(_IMAGE), "Images that placeholders pull onto the nodes they warm."),
    Value("prewarm.cpu", "4", _QUANTITY, "CPUs that a placeholder asks for: as many as a replica's worker does."),
    Value("prewarm.memory", "32Gi", _QUANTITY, "Memory that a placeholder asks for."),
    Value("prewarm.gpuResource", "nvidia.com/gpu", _RESOURCE, "Name of the GPUs as a resource."),
    Value("prewarm.nodeSelector", {}, _LABELS, "Of placeholders; empty = the pool's own label on GKE."),
    Value(
        "prewarm.tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], _OBJECTS,
        "Of placeholders, as of the Ray workers.",
    ),
    Value("prewarm.bufferVersion", "v1beta1", _one_of("v1beta1", "v1alpha1"), "Version of the cluster's CapacityBuffers."),
    Value("prewarm.priorityClassName", "", _OBJECT_NAME_OR_EMPTY, "Of placeholders; empty = one of value -10 is made."),
    Value(
        "prewarm.pools", {}, {
            "type": "object",
            "additionalProperties": {
                "type": "object", "additionalProperties": False,
                "properties": {
                    "image": _IMAGE, "prepull": _names(_IMAGE), "cpu": _QUANTITY, "memory": _QUANTITY,
                    "gpuResource": _RESOURCE, "nodeSelector": _LABELS, "tolerations": _OBJECTS,
                },
            },
        },
        "The same keys for single pools, by name.",
    ),
    Value("releaseHook.enabled", True, _BOOL, "Before uninstall, `leadtime release` gives back what pre-warming holds."),
    Value("releaseHook.activeDeadlineSeconds", 120, {"type": "integer", "minimum": 10}, "When it is given up."),
    Value("tests.enabled", True, _BOOL, "A pod for `helm test`, which asks the Service whether the controller is ready."),
    Value("logJson", True, _BOOL, "Log lines as JSON objects."),
    Value("extraArgs", [], {"type": "array", "items": _LINE}, "More arguments of `leadtime run`."),
    Value("extraEnv", [], _OBJECTS, "More environment variables of the container."),
    Value("extraEnvFrom", [], _OBJECTS, "More environment sources of the container."),
    Value("initContainers", [], _OBJECTS, "Containers that run before it in the pod."),
    Value("extraContainers", [], _OBJECTS, "Containers that run beside it in the pod."),
    Value("extraVolumes", [], _OBJECTS, "More volumes of the pod."),
    Value("extraVolumeMounts", [], _OBJECTS, "More mounts of the container."),
    Value(
        "extraObjects", [], {"type": "array", "items": {"type": ["object", "string"]}},
        "More objects; as text they are templates.",
    ),
)  # fmt: skip
