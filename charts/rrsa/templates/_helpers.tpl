{{/* Names. Everything that is cluster-wide carries the full name, so that two releases do not clash. */}}
{{- define "rrsa.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rrsa.fullname" -}}
{{- $name := .Values.fullnameOverride }}
{{- if not $name }}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name (include "rrsa.name" .)) (contains (include "rrsa.name" .) .Release.Name) }}
{{- end }}
{{- $name = $name | trunc 40 | trimSuffix "-" }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "fullnameOverride: no Service can be called %q, as this release's would; choose letters, digits and `-`, a letter first" $name) }}
{{- end }}
{{- $name }}
{{- end }}

{{- define "rrsa.controller" -}}{{ include "rrsa.fullname" . }}-controller{{- end }}
{{- define "rrsa.webhook" -}}{{ include "rrsa.fullname" . }}-webhook{{- end }}
{{- define "rrsa.caSecret" -}}{{ include "rrsa.webhook" . }}-ca{{- end }}

{{/* Whether the webhook has an authority of its own; "" where its certificate is another's. */}}
{{- define "rrsa.ownAuthority" -}}
{{- if eq .Values.webhook.certificates.mode "own" }}true{{ end }}
{{- end }}

{{/* The Secret with another's certificate. */}}
{{- define "rrsa.certificateSecret" -}}
{{- $certificates := .Values.webhook.certificates }}
{{- if and (eq $certificates.mode "secret") (not $certificates.secretName) }}
{{- fail "webhook.certificates.secretName: mode `secret` needs the name of the Secret (type kubernetes.io/tls) in this namespace" }}
{{- end }}
{{- default (printf "%s-tls" (include "rrsa.webhook" .)) $certificates.secretName }}
{{- end }}

{{/* Whom the API server trusts: said by a value, filled in by cert-manager, or by the webhook itself. */}}
{{- define "rrsa.caBundle" -}}
{{- $certificates := .Values.webhook.certificates }}
{{- if and (eq $certificates.mode "secret") (not $certificates.caBundle) }}
{{- fail "webhook.certificates.caBundle: mode `secret` needs the authority (PEM) that signed the certificate" }}
{{- end }}
{{- if and (eq $certificates.mode "own") $certificates.caBundle }}
{{- fail "webhook.certificates.caBundle: in mode `own` the webhook fills it in itself; leave the value empty" }}
{{- end }}
{{- with $certificates.caBundle }}
{{- printf "%s\n" (trim .) | b64enc }}
{{- end }}
{{- end }}

{{/* What never changes for a component of a release: selectors are immutable. Takes {root, component}. */}}
{{- define "rrsa.selectorLabels" -}}
{{- $labels := dict "app.kubernetes.io/name" (include "rrsa.name" .root) "app.kubernetes.io/instance" .root.Release.Name }}
{{- with .component }}{{- $_ := set $labels "app.kubernetes.io/component" . }}{{- end }}
{{- toYaml $labels }}
{{- end }}

{{/* The labels of every object: those of the selector, those of its kind alone, `commonLabels`, what else is
     usual; the first that has a key says it. Takes {root, component, labels}. */}}
{{- define "rrsa.labels" -}}
{{- $own := include "rrsa.selectorLabels" . | fromYaml }}
{{- $usual := dict
  "app.kubernetes.io/part-of" "rrsa"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- $chosen := merge (dict) (default dict .labels) .root.Values.commonLabels }}
{{- range $key, $value := $chosen }}
{{- if and (hasKey $own $key) (ne (get $own $key) $value) }}
{{- fail (printf "commonLabels, podLabels: the release's pods are found by `%s`, so it cannot be chosen" $key) }}
{{- end }}
{{- end }}
{{- toYaml (merge $own $chosen $usual) }}
{{- end }}

{{- define "rrsa.image" -}}
{{- $image := .Values.image }}
{{- $repository := required "image.repository: push the image that `make image` builds to a registry of yours, and name it here" $image.repository }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* The operator's configuration: `config`, and what other values imply. */}}
{{- define "rrsa.configuration" -}}
{{- $config := deepCopy .Values.config }}
{{- $look := default dict $config.podLook }}
{{- if not (hasKey $look "neverServed") }}
{{- $_ := set $look "neverServed" (include "rrsa.unservedNamespaces" . | fromYamlArray) }}
{{- $_ := set $config "podLook" $look }}
{{- end }}
{{- if not (or $config.oidcProviderArn $config.clusterId) }}
{{- fail "config.oidcProviderArn: name the cluster's OIDC provider in RAM (acs:ram::<account id>:oidc-provider/<provider name>), or its cluster by config.clusterId on ACK" }}
{{- end }}
{{- if .Values.extraCa.pem }}
{{- $sts := deepCopy (default dict $config.sts) }}
{{- if not $sts.caFile }}{{- $_ := set $sts "caFile" "/etc/rrsa/ca.pem" }}{{- end }}
{{- $_ := set $config "sts" $sts }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Metadata of a pod template. Takes {root, component, values}. */}}
{{- define "rrsa.podMetadata" -}}
labels:
  {{- include "rrsa.labels" (dict "root" .root "component" .component "labels" .values.podLabels) | nindent 2 }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the pods of both components have in common. Takes {root, component, values, account}. */}}
{{- define "rrsa.podSpec" -}}
serviceAccountName: {{ .account }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $host := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $pods := dict "matchLabels" (include "rrsa.selectorLabels" . | fromYaml) }}
{{- $spread := list }}
{{- range default (list $host) .values.topologySpreadConstraints }}
{{- $spread = append $spread (ternary . (set (deepCopy .) "labelSelector" $pods) (hasKey . "labelSelector")) }}
{{- end }}
topologySpreadConstraints:
  {{- toYaml $spread | nindent 2 }}
{{- with .root.Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for their containers. */}}
{{- define "rrsa.containerSpec" -}}
image: {{ include "rrsa.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  failureThreshold: 2
startupProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 1
  failureThreshold: 60
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .root.Values.extraEnv .values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: configuration
    mountPath: /etc/rrsa
    readOnly: true
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "rrsa.volumes" -}}
- name: configuration
  configMap:
    name: {{ include "rrsa.fullname" .root }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods that do one thing and end (hooks). Takes {root, account}. */}}
{{- define "rrsa.taskPod" -}}
{{- /* Values of a release before there were tasks have none (`--reuse-values`). */}}
{{- $tasks := default dict .root.Values.tasks }}
serviceAccountName: {{ .account }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
nodeSelector:
  kubernetes.io/os: linux
  {{- with $tasks.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $tasks.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "rrsa.taskContainer" -}}
{{- $tasks := default dict .Values.tasks }}
image: {{ include "rrsa.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with $tasks.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "rrsa.cleanup.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{- define "rrsa.test.hook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* What the three webhook entries have in common. */}}
{{- define "rrsa.webhookCall" -}}
admissionReviewVersions: [v1]
clientConfig:
  {{- with include "rrsa.caBundle" . }}
  caBundle: {{ . }}
  {{- end }}
  service:
    name: {{ include "rrsa.webhook" . }}
    namespace: {{ .Release.Namespace | toYaml }}
    path: /mutate
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods/ephemeralcontainers]
    operations: [UPDATE]
    scope: Namespaced
failurePolicy: {{ .Values.webhook.failurePolicy }}
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
{{- end }}

{{/* Namespaces whose pods are never sent to the webhook. */}}
{{- define "rrsa.unservedNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}

{{- define "rrsa.webhookNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ include "rrsa.unservedNamespaces" . }}
{{- end }}

{{- define "rrsa.webhookConditions" -}}
- name: not-a-mirror-pod
  expression: >-
    !has(object.metadata.annotations) ||
    !('kubernetes.io/config.mirror' in object.metadata.annotations)
- name: not-opted-out
  expression: >-
    !has(object.metadata.annotations) ||
    !('rrsa.io/inject' in object.metadata.annotations) ||
    object.metadata.annotations['rrsa.io/inject'] != 'off'
{{- end }}
