{{- define "leadtime.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "leadtime.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "leadtime.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "leadtime.selector" -}}
app.kubernetes.io/name: {{ include "leadtime.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "leadtime.labels" -}}
{{ include "leadtime.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "leadtime.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "leadtime.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "leadtime.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that are looked after, as a YAML list. */}}
{{- define "leadtime.namespaces" -}}
{{- toYaml (default (list .Release.Namespace) .Values.watchNamespaces) -}}
{{- end -}}

{{/* The settings file: what the pod needs, with `config` over it. Everything else here is derived from this. */}}
{{- define "leadtime.config" -}}
{{- $pod := dict
      "version" 1
      "dry_run" true
      "server" (dict "host" "0.0.0.0" "port" 8080)
      "state" (dict "path" "/var/lib/leadtime/leadtime.sqlite")
      "journal" (dict "path" "/var/lib/leadtime/journal") -}}
{{- /* What is held of a pool depends on the nodes that are in use: somebody has to look. */}}
{{- $warm := false -}}
{{- range (.Values.config.node_pools | default list) -}}
{{- if and (kindIs "map" .) (ne "none" (default "none" .prewarm)) }}{{ $warm = true }}{{ end -}}
{{- end -}}
{{- if .Values.discovery -}}
{{- $_ := set $pod "kubernetes" (dict
      "watch_namespaces" (include "leadtime.namespaces" . | fromYamlArray)
      "name" (include "leadtime.fullname" .)
      "namespace" .Release.Namespace
      "tokens" "/etc/leadtime/secrets"
      "nodes" $warm
      "events" true) -}}
{{- end -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- $_ := set $pod "leader_election" (dict "enabled" true) -}}
{{- end -}}
{{- /* YAML 1.1 reads 1e-07 as text: a number needs its point. Text of that shape is quoted by toYaml. */}}
{{- $all := mergeOverwrite $pod (deepCopy .Values.config) -}}
{{- if kindIs "map" $all.server -}}
{{- /* The Service's names, by which the pages are asked; those of config.server.hosts are added. */}}
{{- $name := include "leadtime.fullname" . -}}
{{- $there := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list $name $there (printf "%s.svc" $there) (printf "%s.svc.cluster.local" $there) -}}
{{- $_ := set $all.server "hosts" (concat $hosts ($all.server.hosts | default list) | uniq) -}}
{{- end -}}
{{- regexReplaceAll `(?m)([:-] -?[0-9]+)(e[-+][0-9]+)$` (toYaml $all) "${1}.0${2}" -}}
{{- end -}}

{{/* What the settings ask for, as a dictionary of switches. */}}
{{- define "leadtime.features" -}}
{{- $config := include "leadtime.config" . | fromYaml -}}
{{- $ways := dict -}}
{{- range ($config.node_pools | default list) -}}
{{- $_ := set $ways (default "none" .prewarm) true -}}
{{- end -}}
{{- $_ := unset $ways "none" -}}
{{- $acts := not $config.dry_run -}}
{{- $discovery := kindIs "map" $config.kubernetes -}}
{{- $election := eq "true" (toString (get ($config.leader_election | default dict) "enabled")) -}}
{{- $objects := false -}}
{{- range list "placeholder" "capacity_buffer" "worker_group" "provisioning_request" -}}
{{- if hasKey $ways . }}{{ $objects = true }}{{ end -}}
{{- end -}}
{{- toYaml (dict
      "acts" $acts
      "discovery" $discovery
      "election" $election
      "events" (and $acts $discovery (eq "true" (toString (get ($config.kubernetes | default dict) "events"))))
      "prewarm" (gt (len $ways) 0)
      "ways" $ways
      "pause" $discovery
      "nodes" (and $discovery (eq "true" (toString (get ($config.kubernetes | default dict) "nodes"))))
      "api" (or $election $objects $discovery)
      "scheme" (ternary "HTTPS" "HTTP" (not (empty $config.server.cert_file)))
      "port" (int $config.server.port)) -}}
{{- end -}}

{{/* Values that contradict each other. */}}
{{- define "leadtime.check" -}}
{{- $config := include "leadtime.config" . | fromYaml -}}
{{- $features := include "leadtime.features" . | fromYaml -}}
{{- if and (gt (int .Values.replicas) 1) (not $features.election) -}}
{{- fail "replicas: more than one needs config.leader_election.enabled true (or leave that setting out)" -}}
{{- end -}}
{{- if and $features.election (not $features.discovery) -}}
{{- fail "replicas, config.leader_election: several pods elect a leader through the Kubernetes API, which needs discovery true" -}}
{{- end -}}
{{- with $config.kubernetes -}}
{{- if or (ne (toJson .watch_namespaces) (include "leadtime.namespaces" $ | fromYamlArray | toJson)) (ne .name (include "leadtime.fullname" $)) (ne .namespace $.Release.Namespace) -}}
{{- fail "config.kubernetes: watch_namespaces, name and namespace are set by the chart, which makes the Roles for them; use watchNamespaces and fullnameOverride" -}}
{{- end -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) .Values.persistence.enabled -}}
{{- fail "persistence.enabled: allowed with replicas 1 only, since every pod keeps a state of its own; with more, config.prometheus gives history at start" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor.enabled, serviceMonitor.enabled: one of the two, or everything is counted twice" -}}
{{- end -}}
{{- if has $config.server.host (list "127.0.0.1" "localhost" "::1") -}}
{{- fail "config.server.host: the kubelet's probes do not reach a loopback address; leave it out, or 0.0.0.0" -}}
{{- end -}}
{{- if lt (int $config.server.port) 1 -}}
{{- fail "config.server.port: a fixed port from 1 to 65535 is needed in a pod" -}}
{{- end -}}
{{- if and (not .Values.discovery) (not $config.services) (not $features.discovery) -}}
{{- fail "config.services: empty; with discovery false, list the Ray clusters to look after" -}}
{{- end -}}
{{- include "leadtime.checkPools" . -}}
{{- range .Values.prometheusRule.disabled -}}
{{- if not (has . (include "leadtime.alertNames" $ | fromYamlArray)) -}}
{{- fail (printf "prometheusRule.disabled: %q is no alert of this chart; allowed: %s" . (join ", " (include "leadtime.alertNames" $ | fromYamlArray))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pools whose way cannot work there, or whose objects the API would refuse in the middle of an install: the settings'
     own checks (autoscaler/config/prewarm.py) would end the pod only after it. */}}
{{- define "leadtime.checkPools" -}}
{{- $config := include "leadtime.config" . | fromYaml -}}
{{- $anywhere := list "node_pool" "auto_provisioning" "compute_class" "autopilot" -}}
{{- $where := dict
      "placeholder" $anywhere
      "capacity_buffer" $anywhere
      "worker_group" (without $anywhere "autopilot")
      "request_resources" (without $anywhere "autopilot")
      "node_pool" (list "node_pool")
      "provisioning_request" (list "node_pool") -}}
{{- $taken := dict -}}
{{- range ($config.node_pools | default list) -}}
{{- $way := default "none" .prewarm -}}
{{- $from := default "node_pool" .provisioner -}}
{{- if and (ne "none" $way) (not (has $from (get $where $way))) -}}
{{- fail (printf "config.node_pools: %q: prewarm %s does not work where nodes come from %s (docs/gke.md)" .name $way $from) -}}
{{- end -}}
{{- if has $way (list "placeholder" "capacity_buffer" "provisioning_request") -}}
{{- $object := include "leadtime.warmName" (list $ .) -}}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" .name) -}}
{{- fail (printf "config.node_pools: the name %q is no label value of Kubernetes; allowed: letters, digits, '-', '_' and '.', at most 63" .name) -}}
{{- end -}}
{{- if or (gt (len $object) 253) (not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" $object)) -}}
{{- fail (printf "config.node_pools: %q would have an object %q; allowed: a-z, 0-9, '-' and '.'; warm.object names it otherwise" .name $object) -}}
{{- end -}}
{{- if hasKey $taken $object -}}
{{- fail (printf "config.node_pools: %q and %q have one object %q; allowed: each its own" (get $taken $object) .name $object) -}}
{{- end -}}
{{- $_ := set $taken $object .name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pools with one of the ways in a list, as a YAML list of {name, gpus_per_node, gpu, provisioner, prewarm, warm}. Call with (list $ "way" ...). */}}
{{- define "leadtime.warmPools" -}}
{{- $root := first . -}}
{{- $ways := rest . -}}
{{- $found := list -}}
{{- $config := include "leadtime.config" $root | fromYaml -}}
{{- range ($config.node_pools | default list) -}}
{{- if has (default "none" .prewarm) $ways -}}{{ $found = append $found . }}{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* Name of what is made for pre-warming a pool. Call with (list $ pool). */}}
{{- define "leadtime.warmName" -}}
{{- $pool := index . 1 -}}
{{- $warm := $pool.warm | default dict -}}
{{- default (printf "%s-warm-%s" (include "leadtime.fullname" (index . 0)) $pool.name) $warm.object -}}
{{- end -}}

{{/* The values of a pool: prewarm's own with prewarm.pools.POOL over them. Call with (list $ pool). */}}
{{- define "leadtime.warmValues" -}}
{{- $prewarm := (index . 0).Values.prewarm -}}
{{- $own := get $prewarm.pools (index . 1).name | default dict -}}
{{- toYaml (merge (deepCopy $own) (omit $prewarm "pools")) -}}
{{- end -}}

{{/* The template of a pod that stands for one replica's share of a node. Call with (list $ pool). */}}
{{- define "leadtime.warmPod" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $values := include "leadtime.warmValues" . | fromYaml -}}
{{- $warm := $pool.warm | default dict -}}
{{- $gpus := default (default 8 $pool.gpus_per_node) $warm.gpus | int -}}
{{- $request := dict "cpu" $values.cpu "memory" $values.memory $values.gpuResource $gpus -}}
metadata:
  labels:
    {{- /* Not the controller's own labels: its Service and selectors would take them for its pods. */}}
    app.kubernetes.io/name: {{ include "leadtime.name" $root }}-placeholder
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    app.kubernetes.io/component: placeholder
    {{- with $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    leadtime.dev/placeholder: "true"
    leadtime.dev/prewarm: {{ $pool.name }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
spec:
  {{- if eq "placeholder" $pool.prewarm }}
  priorityClassName: {{ include "leadtime.warmPriority" $root }}
  {{- end }}
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "leadtime.podSecurity" $root | nindent 4 }}
  nodeSelector:
    {{- if $values.nodeSelector }}
    {{- toYaml $values.nodeSelector | nindent 4 }}
    {{- else if eq "compute_class" (default "node_pool" $pool.provisioner) }}
    cloud.google.com/compute-class: {{ $pool.name }}
    {{- else if eq "node_pool" (default "node_pool" $pool.provisioner) }}
    cloud.google.com/gke-nodepool: {{ $pool.name }}
    {{- else }}
    cloud.google.com/gke-accelerator: {{ $pool.gpu }}
    {{- end }}
  tolerations:
    {{- toYaml $values.tolerations | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $values.prepull (eq "placeholder" $pool.prewarm) }}
  initContainers:
    {{- range $i, $image := $values.prepull }}
    # It only has to be on the node: whatever its `true` does, or does not do, comes after the pull.
    - name: pull-{{ $i }}
      image: {{ $image | quote }}
      command: ["/bin/true"]
      resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
      securityContext:
        {{- include "leadtime.containerSecurity" $root | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - name: placeholder
      image: {{ $values.image | quote }}
      resources:
        requests:
          {{- toYaml $request | nindent 10 }}
        limits:
          {{- toYaml (omit $request "cpu") | nindent 10 }}
      securityContext:
        {{- include "leadtime.containerSecurity" $root | nindent 8 }}
{{- end -}}

{{- define "leadtime.warmPriority" -}}
{{- default (printf "%s-placeholder" (include "leadtime.fullname" .)) .Values.prewarm.priorityClassName -}}
{{- end -}}

{{- define "leadtime.alertNames" -}}
{{- $names := list -}}
{{- range (.Files.Get "rules/alerts.yaml" | fromYaml).groups -}}
{{- range .rules -}}
{{- $names = append $names .alert -}}
{{- end -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* Security of a pod and its container: the "restricted" standard, and a root file system that cannot be written. */}}
{{- define "leadtime.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAsUser }}
runAsGroup: {{ .Values.runAsUser }}
fsGroup: {{ .Values.runAsUser }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "leadtime.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "leadtime.mounts" -}}
- name: config
  mountPath: /etc/leadtime/config
  readOnly: true
- name: state
  mountPath: /var/lib/leadtime
- name: tmp
  mountPath: /tmp
{{- range .Values.secrets }}
- name: {{ printf "secret-%s" .name | replace "." "-" | trunc 63 | trimSuffix "-" }}
  mountPath: /etc/leadtime/secrets/{{ with .namespace }}{{ . }}/{{ end }}{{ .name }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Call with a list: the root context, and whether the state may be on the claim. */}}
{{- define "leadtime.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  projected:
    sources:
      - configMap:
          name: {{ include "leadtime.fullname" $root }}
- name: state
{{- if and $root.Values.persistence.enabled (index . 1) }}
  persistentVolumeClaim:
    claimName: {{ default (include "leadtime.fullname" $root) $root.Values.persistence.existingClaim }}
{{- else }}
  emptyDir:
    sizeLimit: {{ $root.Values.persistence.size }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- range $root.Values.secrets }}
- name: {{ printf "secret-%s" .name | replace "." "-" | trunc 63 | trimSuffix "-" }}
  secret:
    secretName: {{ .name }}
    defaultMode: 288
    {{- if .optional }}
    optional: true
    {{- end }}
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
