"""Every value of the chart, declared once: key, default, JSON schema and meaning. Not for what templates do with it.

The settings of the controller itself are not repeated here: the schema of `config` is that of the settings model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_BOOL: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_NAME_OR_EMPTY: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63}
_QUANTITY: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_INTERVAL: Schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
_INTERVAL_OR_EMPTY: Schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))?$"}
_METRIC_LABEL: Schema = {"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}
_COUNT_OR_SHARE: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]}
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
    Value("fullnameOverride", "", _NAME_OR_EMPTY, "Replaces the whole name of its objects."),
    Value("commonLabels", {}, _LABELS, "Labels for every object."),
    Value("image.repository", "leadtime", {"type": "string", "minLength": 1}, "Your registry and the image's name."),
    Value("image.tag", "", {"type": "string", "pattern": "^[A-Za-z0-9_.-]*$"}, "Tag; empty = the chart's appVersion."),
    Value(
        "image.digest", "", {"type": "string", "pattern": "^(sha256:[a-f0-9]{64})?$"}, "Pins the image; goes before tag."
    ),
    Value("image.pullPolicy", "IfNotPresent", _one_of("Always", "IfNotPresent", "Never"), "When the image is pulled."),
    Value("imagePullSecrets", [], _OBJECTS, "Existing Secrets to pull the image with: a list of {name}."),
    Value(
        "replicas", 1, {"type": "integer", "minimum": 0, "maximum": 5},
        "Pods; more than one elects a leader, and the others run warm. 0 stops the controller; replicas stay as they are.",
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
            "type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"}, "additionalProperties": {"type": "string"},
        },
        "More files beside the settings file, by name, such as engine profiles that config.deployments[].profile names.",
    ),
    Value(
        "secrets", [], {
            "type": "array",
            "items": {
                "type": "object", "required": ["name"], "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1}, "optional": _BOOL, "items": _OBJECTS,
                    "namespace": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
                },
            },
        },
        "Existing Secrets, mounted as files /etc/leadtime/secrets/NAME/KEY for token_file, ca_file and the like; "
        "with `namespace` as /etc/leadtime/secrets/NAMESPACE/NAME/KEY, where tokens of found Ray clusters of that "
        "namespace are looked for. Read again when they change.",
    ),
    Value("serviceAccount.create", True, _BOOL, "Make a ServiceAccount; false = use an existing one."),
    Value("serviceAccount.name", "", _NAME_OR_EMPTY, "Its name; empty = the objects' name (or `default`)."),
    Value("serviceAccount.annotations", {}, _LABELS, "Annotations of it, such as for Workload Identity."),
    Value("rbac.create", True, _BOOL, "Make Roles and RoleBindings; false = you grant the rights of docs/install.md."),
    Value(
        "admissionPolicy.enabled", False, _BOOL,
        "A ValidatingAdmissionPolicy (Kubernetes 1.30+): this account may change worker counts of ray.io objects only.",
    ),
    Value("admissionPolicy.failurePolicy", "Fail", _one_of("Fail", "Ignore"), "What happens when it cannot be evaluated."),
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
    Value("priorityClassName", "", _TEXT, "Of the pod."),
    Value("podAnnotations", {}, _LABELS, "Of the pod."),
    Value("podLabels", {}, _LABELS, "Of the pod."),
    Value("runAsUser", 65532, {"type": "integer", "minimum": 1}, "User, group and fsGroup of the pod; never 0."),
    Value("hostUsers", None, {"type": ["boolean", "null"]}, "false = a user namespace of its own (Kubernetes 1.33+)."),
    Value(
        "terminationGracePeriodSeconds", 30, {"type": "integer", "minimum": 10, "maximum": 600},
        "Time to finish the tick, save and release the lease.",
    ),
    Value("persistence.enabled", False, _BOOL, "Keep what was learned and the journal on a volume (one pod only)."),
    Value("persistence.size", "2Gi", _QUANTITY, "Of the volume, or of the pod's own scratch folder without one."),
    Value("persistence.storageClassName", None, {"type": ["string", "null"]}, "Of the claim; null = the cluster's default."),
    Value("persistence.accessModes", ["ReadWriteOnce"], {"type": "array", "items": _TEXT, "minItems": 1}, "Of the claim."),
    Value("persistence.existingClaim", "", _TEXT, "Use this claim instead of making one."),
    Value("service.type", "ClusterIP", _one_of("ClusterIP", "NodePort", "LoadBalancer"), "Of the Service."),
    Value("service.port", 8080, _PORT, "Of the Service."),
    Value("service.annotations", {}, _LABELS, "Of the Service."),
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
    Value("prometheusRule.runbookBaseUrl", "", _TEXT, "Goes before the runbooks' paths (docs/runbooks/NAME.md)."),
    Value("prometheusRule.disabled", [], _names({"type": "string"}), "Alerts to leave out, by name."),
    Value("dashboards.enabled", False, _BOOL, "A ConfigMap with the Grafana dashboards for Grafana's sidecar."),
    Value("dashboards.labels", {"grafana_dashboard": "1"}, _LABELS, "Labels by which the sidecar finds it."),
    Value("dashboards.annotations", {}, _LABELS, "Annotations of it, such as the folder."),
    Value("networkPolicy.enabled", True, _BOOL, "Let in only what asks for pages, let out only what it needs."),
    Value(
        "networkPolicy.ingressFrom", [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        _OBJECTS, "Who may read its pages (NetworkPolicy peers).",
    ),
    Value(
        "networkPolicy.rayPorts", [8265, 8080, 44217, 44227], _PORTS,
        "Ports of Ray pods: dashboard, metrics pages of nodes, of the autoscaler and of the dashboard.",
    ),
    Value("networkPolicy.apiServerPorts", [443, 6443], _PORTS, "Ports of the Kubernetes API."),
    Value(
        "networkPolicy.apiServerCidrs", [], _names({"type": "string"}),
        "Addresses of the Kubernetes API; empty = any address on those ports, since the API is no pod.",
    ),
    Value("networkPolicy.prometheusTo", [], _OBJECTS, "Where Prometheus is (peers); empty = anywhere on its port."),
    Value("networkPolicy.extraIngress", [], _OBJECTS, "More ingress rules."),
    Value("networkPolicy.extraEgress", [], _OBJECTS, "More egress rules."),
    Value("podDisruptionBudget.enabled", True, _BOOL, "With more than one pod: keep drains from taking all at once."),
    Value("podDisruptionBudget.maxUnavailable", 1, _COUNT_OR_SHARE, "Pods that a drain may take at once."),
    Value("prewarm.image", "registry.k8s.io/pause:3.10", {"type": "string", "minLength": 1}, "Of placeholder pods; it does nothing."),
    Value("prewarm.prepull", [], _names({"type": "string"}), "Images that placeholders pull onto the nodes they warm."),
    Value("prewarm.cpu", "4", _QUANTITY, "CPUs that a placeholder asks for: as many as a replica's worker does."),
    Value("prewarm.memory", "32Gi", _QUANTITY, "Memory that a placeholder asks for."),
    Value("prewarm.gpuResource", "nvidia.com/gpu", {"type": "string", "minLength": 1}, "Name of the GPUs as a resource."),
    Value("prewarm.nodeSelector", {}, _LABELS, "Of placeholders; empty = the pool's own label on GKE."),
    Value(
        "prewarm.tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], _OBJECTS,
        "Of placeholders, as of the Ray workers.",
    ),
    Value("prewarm.bufferVersion", "v1beta1", _one_of("v1beta1", "v1alpha1"), "Version of the cluster's CapacityBuffers."),
    Value("prewarm.priorityClassName", "", _TEXT, "Of placeholders; empty = one of value -10 is made."),
    Value(
        "prewarm.pools", {}, {
            "type": "object",
            "additionalProperties": {
                "type": "object", "additionalProperties": False,
                "properties": {
                    "image": _TEXT, "prepull": _names({"type": "string"}), "cpu": _QUANTITY, "memory": _QUANTITY,
                    "gpuResource": _TEXT, "nodeSelector": _LABELS, "tolerations": _OBJECTS,
                },
            },
        },
        "The same keys for single pools, by name.",
    ),
    Value("releaseHook.enabled", True, _BOOL, "Before uninstall, `leadtime release` gives back what pre-warming holds."),
    Value("releaseHook.activeDeadlineSeconds", 120, {"type": "integer", "minimum": 10}, "When it is given up."),
    Value("logJson", True, _BOOL, "Log lines as JSON objects."),
    Value("extraArgs", [], {"type": "array", "items": _TEXT}, "More arguments of `leadtime run`."),
    Value("extraEnv", [], _OBJECTS, "More environment variables of the container."),
    Value("extraEnvFrom", [], _OBJECTS, "More environment sources of the container."),
    Value("extraVolumes", [], _OBJECTS, "More volumes of the pod."),
    Value("extraVolumeMounts", [], _OBJECTS, "More mounts of the container."),
    Value(
        "extraObjects", [], {"type": "array", "items": {"type": ["object", "string"]}},
        "More objects; as text they are templates.",
    ),
)  # fmt: skip
