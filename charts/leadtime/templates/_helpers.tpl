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
app.kubernetes.io/name: {{ include "leadtime.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "leadtime.labels" -}}
{{ include "leadtime.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
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
{{- $repository := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* commonAnnotations and an object's own. Call with (list $) or (list $ annotations). */}}
{{- define "leadtime.annotations" -}}
{{- $own := dict -}}
{{- range rest . }}{{ $own = . }}{{ end -}}
{{- with merge (dict) $own (first .).Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
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
{{- /* Also with one pod: one on a node that is cut off runs on beside the one that replaces it. */}}
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
      "autoscalers" (and $discovery (eq "true" (toString (get ($config.kubernetes | default dict) "autoscalers"))))
      "nodes" (and $discovery (eq "true" (toString (get ($config.kubernetes | default dict) "nodes"))))
      "admission" (kindIs "bool" .Values.admissionPolicy.enabled | ternary .Values.admissionPolicy.enabled (hasKey $ways "worker_group"))
      "api" (or $election $objects $discovery)
      "scheme" (ternary "HTTPS" "HTTP" (not (empty $config.server.cert_file)))
      "port" (int $config.server.port)) -}}
{{- end -}}

{{/* Values that contradict each other. */}}
{{- define "leadtime.check" -}}
{{- $config := include "leadtime.config" . | fromYaml -}}
{{- $features := include "leadtime.features" . | fromYaml -}}
{{- include "leadtime.checkNames" . -}}
{{- if and (or $features.election (gt (int .Values.replicas) 1)) (not $features.discovery) -}}
{{- fail "replicas, config.leader_election: pods elect a leader through the Kubernetes API, which needs discovery true" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not $features.election) -}}
{{- fail "replicas: more than one needs config.leader_election.enabled true (or leave that setting out)" -}}
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

{{/* Names that would stand twice in one object, of which YAML keeps one and the API refuses the rest. */}}
{{- define "leadtime.checkNames" -}}
{{- $values := .Values -}}
{{- $ours := concat (keys (include "leadtime.labels" (dict "Values" (dict "commonLabels" dict "nameOverride" "") "Chart" .Chart "Release" .Release) | fromYaml)) (list "app.kubernetes.io/component" "leadtime.dev/prewarm" "leadtime.dev/placeholder") -}}
{{- range $key, $labels := dict
      "commonLabels" $values.commonLabels
      "podLabels" $values.podLabels
      "service.labels" $values.service.labels
      "podMonitor.labels" $values.podMonitor.labels
      "serviceMonitor.labels" $values.serviceMonitor.labels
      "prometheusRule.labels" $values.prometheusRule.labels
      "dashboards.labels" $values.dashboards.labels -}}
{{- range $label, $_ := $labels -}}
{{- if has $label $ours -}}
{{- fail (printf "%s: the label %q is set by the chart; choose another key" $key $label) -}}
{{- end -}}
{{- if and (ne $key "commonLabels") (hasKey $values.commonLabels $label) -}}
{{- fail (printf "%s: the label %q is in commonLabels too; write it once" $key $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $annotations := dict
      "commonAnnotations" $values.commonAnnotations
      "deploymentAnnotations" $values.deploymentAnnotations
      "podAnnotations" $values.podAnnotations
      "service.annotations" $values.service.annotations
      "serviceAccount.annotations" $values.serviceAccount.annotations
      "dashboards.annotations" $values.dashboards.annotations -}}
{{- range $annotation, $_ := $annotations -}}
{{- if or (hasPrefix "helm.sh/" $annotation) (hasPrefix "meta.helm.sh/" $annotation) (eq "checksum/config" $annotation) -}}
{{- fail (printf "%s: the annotation %q is set by the chart or by helm; choose another key" $key $annotation) -}}
{{- end -}}
{{- if and (not (has $key (list "commonAnnotations" "podAnnotations"))) (hasKey $values.commonAnnotations $annotation) -}}
{{- fail (printf "%s: the annotation %q is in commonAnnotations too; write it once" $key $annotation) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volumes := dict "config" "the chart" "state" "the chart" "tmp" "the chart" -}}
{{- $mounts := dict "/etc/leadtime/config" "the chart" "/var/lib/leadtime" "the chart" "/tmp" "the chart" -}}
{{- range $values.secrets -}}
{{- $said := printf "secrets: %q" .name -}}
{{- include "leadtime.once" (list $volumes (include "leadtime.secretVolume" .) "volume" $said) -}}
{{- include "leadtime.once" (list $mounts (include "leadtime.secretPath" .) "mount path" $said) -}}
{{- end -}}
{{- range $values.extraVolumes -}}
{{- include "leadtime.once" (list $volumes .name "volume" "extraVolumes") -}}
{{- end -}}
{{- range $values.extraVolumeMounts -}}
{{- include "leadtime.once" (list $mounts (toString .mountPath | trimSuffix "/") "mount path" "extraVolumeMounts") -}}
{{- if not (hasKey $volumes (toString .name)) -}}
{{- fail (printf "extraVolumeMounts: there is no volume %q; allowed: %s" (toString .name) (keys $volumes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- $variables := dict "POD_NAME" "the chart" "POD_NAMESPACE" "the chart" "POD_UID" "the chart" -}}
{{- range $values.extraEnv -}}
{{- include "leadtime.once" (list $variables .name "variable" "extraEnv") -}}
{{- end -}}
{{- $containers := dict "leadtime" "the chart" -}}
{{- range $key := list "initContainers" "extraContainers" -}}
{{- range get $values $key -}}
{{- include "leadtime.once" (list $containers .name "container" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Errors: a name that is taken, with who has it. Call with (list taken name kind who). */}}
{{- define "leadtime.once" -}}
{{- $taken := index . 0 -}}
{{- $name := index . 1 | toString -}}
{{- if hasKey $taken $name -}}
{{- fail (printf "%s: the %s %q is there already (%s); choose another one" (index . 3) (index . 2) $name (get $taken $name)) -}}
{{- end -}}
{{- $_ := set $taken $name (index . 3) -}}
{{- end -}}

{{- define "leadtime.secretPath" -}}
/etc/leadtime/secrets/{{ with .namespace }}{{ . }}/{{ end }}{{ .name }}
{{- end -}}

{{- define "leadtime.secretVolume" -}}
{{- printf "secret-%s%s" (empty .namespace | ternary "" (printf "%s-" .namespace)) .name | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Pools whose way cannot work there, or whose objects the API would refuse in the middle of an install: the settings'
     own checks (autoscaler/settings/prewarm.py) would end the pod only after it. */}}
{{- define "leadtime.checkPools" -}}
{{- $config := include "leadtime.config" . | fromYaml -}}
{{- $where := .Files.Get "ways.yaml" | fromYaml -}}
{{- $names := list -}}
{{- range ($config.node_pools | default list) }}{{ $names = append $names .name }}{{ end -}}
{{- range $name, $_ := .Values.prewarm.pools -}}
{{- if not (has $name $names) -}}
{{- fail (printf "prewarm.pools: %q is no pool of config.node_pools; allowed: %s" $name (default "none, there are no pools" (join ", " $names))) -}}
{{- end -}}
{{- end -}}
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
    app.kubernetes.io/name: {{ printf "%s-placeholder" (include "leadtime.name" $root) | quote }}
    app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
    app.kubernetes.io/component: placeholder
    {{- with $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    leadtime.dev/placeholder: "true"
    leadtime.dev/prewarm: {{ $pool.name | quote }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
spec:
  {{- if eq "placeholder" $pool.prewarm }}
  priorityClassName: {{ include "leadtime.warmPriority" $root | quote }}
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
    cloud.google.com/compute-class: {{ $pool.name | quote }}
    {{- else if eq "node_pool" (default "node_pool" $pool.provisioner) }}
    cloud.google.com/gke-nodepool: {{ $pool.name | quote }}
    {{- else }}
    cloud.google.com/gke-accelerator: {{ $pool.gpu | quote }}
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

{{/* Security of a pod and its container: the "restricted" standard, and a root file system that cannot be written; what
     the values say goes before it. */}}
{{- define "leadtime.podSecurity" -}}
{{- $user := .Values.runAsUser | int64 -}}
{{- $usual := dict
      "runAsNonRoot" true
      "runAsUser" $user
      "runAsGroup" $user
      "fsGroup" $user
      "fsGroupChangePolicy" "OnRootMismatch"
      "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- toYaml (mergeOverwrite $usual (deepCopy .Values.podSecurityContext)) -}}
{{- end -}}

{{- define "leadtime.containerSecurity" -}}
{{- $usual := dict
      "allowPrivilegeEscalation" false
      "privileged" false
      "readOnlyRootFilesystem" true
      "runAsNonRoot" true
      "capabilities" (dict "drop" (list "ALL")) -}}
{{- toYaml (mergeOverwrite $usual (deepCopy .Values.securityContext)) -}}
{{- end -}}

{{/* What every pod of ours, placeholders aside, has alike. */}}
{{- define "leadtime.podBasics" -}}
{{- $found := dict "securityContext" (include "leadtime.podSecurity" . | fromYaml) -}}
{{- range $key := list "imagePullSecrets" "priorityClassName" "schedulerName" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" -}}
{{- with get $.Values $key }}{{ $_ := set $found $key . }}{{ end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "leadtime.placement" -}}
{{- $found := dict -}}
{{- range $key := list "nodeSelector" "affinity" "tolerations" -}}
{{- with get $.Values $key }}{{ $_ := set $found $key . }}{{ end -}}
{{- end -}}
{{- with $found }}{{ toYaml . }}{{ end -}}
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
- name: {{ include "leadtime.secretVolume" . | quote }}
  mountPath: {{ include "leadtime.secretPath" . | quote }}
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
          name: {{ include "leadtime.fullname" $root | quote }}
- name: state
{{- if and $root.Values.persistence.enabled (index . 1) }}
  persistentVolumeClaim:
    claimName: {{ default (include "leadtime.fullname" $root) $root.Values.persistence.existingClaim | quote }}
{{- else }}
  emptyDir:
    sizeLimit: {{ $root.Values.persistence.size | quote }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- range $root.Values.secrets }}
- name: {{ include "leadtime.secretVolume" . | quote }}
  secret:
    secretName: {{ .name | quote }}
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
