{{/* Parts of every pod that runs the worker's program. */}}

{{/* The broker's URL where the login stands apart from it; the pod fills in what only the Secret knows. */}}
{{- define "ccfs-worker.bareUrl" -}}
{{- with .Values.broker.login }}
{{- $path := eq .virtualHost "/" | ternary "" (urlquery .virtualHost | replace "+" "%20") }}
{{- printf "%s://%s/%s" (.tls | ternary "amqps" "amqp") (.host | default "$(BROKER_HOST):$(BROKER_PORT)") $path }}
{{- end }}
{{- end }}

{{/* The Secret that the user names or, for trials, the chart's own. Arguments: the root, and "broker" or
     "accounts". */}}
{{- define "ccfs-worker.secretName" -}}
{{- $own := printf "%s-%s" (include "ccfs-worker.fullname" (first .)) (last .) }}
{{- default $own (index (first .).Values (last .)).existingSecret }}
{{- end }}

{{/* The volume of authorities to trust, if there are any. Arguments: the root, and "broker" or "ccfs". */}}
{{- define "ccfs-worker.caVolume" -}}
{{- $ca := (index (first .).Values.tls (last .)).ca }}
{{- if or $ca.pem $ca.existingConfigMap $ca.existingSecret -}}
- name: {{ last . }}-ca
  {{- if $ca.existingSecret }}
  secret:
    secretName: {{ $ca.existingSecret }}
  {{- else }}
  configMap:
    name: {{ $ca.existingConfigMap | default (printf "%s-ca" (include "ccfs-worker.fullname" (first .))) }}
  {{- end }}
    items:
      - key: {{ $ca.pem | empty | ternary $ca.key (printf "%s.crt" (last .)) }}
        path: ca.crt
{{ end }}
{{- end }}

{{- define "ccfs-worker.storageVolume" -}}
- name: storage
  {{- with .Values.storage }}
  {{- if .volume }}
  {{- toYaml .volume | nindent 2 }}
  {{- else if .emptyDir.enabled }}
  emptyDir:
    sizeLimit: {{ .emptyDir.sizeLimit }}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .existingClaim | default (printf "%s-storage" (include "ccfs-worker.fullname" $)) }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "ccfs-worker.accountsVolume" -}}
- name: accounts
  {{- with .Values.accounts }}
  {{- if .volume }}
  {{- toYaml .volume | nindent 2 }}
  {{- else }}
  secret:
    secretName: {{ include "ccfs-worker.secretName" (list $ "accounts") }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "ccfs-worker.volumes" -}}
- name: broker
  {{- with .Values.broker }}
  {{- if .volume }}
  {{- toYaml .volume | nindent 2 }}
  {{- else if .login.existingSecret }}
  secret:
    secretName: {{ .login.existingSecret }}
    items:
      - key: {{ .login.usernameKey | quote }}
        path: WORKER_AMQP__USERNAME
      - key: {{ .login.passwordKey | quote }}
        path: WORKER_AMQP__PASSWORD
      {{- with .managementUrlKey }}
      - key: {{ . | quote }}
        path: WORKER_AMQP__MANAGEMENT_URL
      {{- end }}
  {{- else }}
  secret:
    secretName: {{ include "ccfs-worker.secretName" (list $ "broker") }}
    items:
      - key: {{ .url | empty | ternary .existingSecretKey "url" | quote }}
        path: WORKER_AMQP__URL
      {{- with .url | empty | ternary .managementUrlKey (.managementUrl | empty | ternary "" "managementUrl") }}
      - key: {{ . | quote }}
        path: WORKER_AMQP__MANAGEMENT_URL
      {{- end }}
  {{- end }}
  {{- end }}
{{ include "ccfs-worker.accountsVolume" . }}
{{ include "ccfs-worker.caVolume" (list . "broker") }}
{{- include "ccfs-worker.caVolume" (list . "ccfs") }}
{{- with .Values.tls.broker.clientCertificate }}
{{- if .existingSecret -}}
- name: broker-client
  secret:
    secretName: {{ .existingSecret }}
    items:
      - key: {{ .certKey | quote }}
        path: tls.crt
      - key: {{ .keyKey | quote }}
        path: tls.key
{{ end }}
{{- end }}
{{- include "ccfs-worker.storageVolume" . }}
{{- with .Values.extraVolumes }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{- define "ccfs-worker.storageMount" -}}
- name: storage
  mountPath: {{ .Values.storage.mountPath | quote }}
  {{- with .Values.storage.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end }}

{{- define "ccfs-worker.volumeMounts" -}}
{{ include "ccfs-worker.storageMount" . }}
{{- $names := list "broker" "accounts" }}
{{- range list "broker" "ccfs" }}
{{- if include "ccfs-worker.caVolume" (list $ .) }}
{{- $names = append $names (printf "%s-ca" .) }}
{{- end }}
{{- end }}
{{- if .Values.tls.broker.clientCertificate.existingSecret }}
{{- $names = append $names "broker-client" }}
{{- end }}
{{- range $names }}
- name: {{ . }}
  mountPath: /etc/ccfs-worker/{{ . }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{/* A map of the values as YAML, without what is empty: a parent chart cannot say null (Helm 4 takes no notice of it),
     so there an empty text leaves out what is set by default. */}}
{{- define "ccfs-worker.pruned" -}}
{{- $kept := dict }}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}
{{- $value = include "ccfs-worker.pruned" $value | fromYaml }}
{{- end }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "") (eq (toJson $value) "{}")) }}
{{- $_ := set $kept $key $value }}
{{- end }}
{{- end }}
{{- with $kept }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* What is the same in every container of ours. */}}
{{- define "ccfs-worker.container" -}}
image: {{ include "ccfs-worker.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with include "ccfs-worker.pruned" .Values.securityContext }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
env:
  {{- include "ccfs-worker.env" . | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- with include "ccfs-worker.pruned" .Values.resources }}
resources:
  {{- . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- include "ccfs-worker.volumeMounts" . | nindent 2 }}
{{- end }}

{{/* The pull secrets, each a name or a reference: charts that share `global.imagePullSecrets` differ in that. */}}
{{- define "ccfs-worker.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat .Values.imagePullSecrets ((.Values.global).imagePullSecrets | default list) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $secrets }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* What is the same in every pod of ours. */}}
{{- define "ccfs-worker.podSpec" -}}
serviceAccountName: {{ include "ccfs-worker.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
enableServiceLinks: false
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with include "ccfs-worker.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- $context := .Values.podSecurityContext | default dict }}
{{- if include "ccfs-worker.openshift" . }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- with include "ccfs-worker.pruned" $context }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with index $.Values $field }}
{{ $field }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $field := list "dnsConfig" "hostAliases" "nodeSelector" "tolerations" "affinity" }}
{{- with index $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The checksums restart the pods when a value changes that the worker reads only at its start. The accounts' keys
     have none: they are read again. */}}
{{- define "ccfs-worker.podAnnotations" -}}
{{- $ours := dict }}
{{- with .Values.broker.url }}
{{- $_ := set $ours "checksum/broker" (print . $.Values.broker.managementUrl | sha256sum) }}
{{- end }}
{{- range $peer, $tls := .Values.tls }}
{{- with $tls.ca.pem }}
{{- $_ := set $ours (printf "checksum/%s-ca" $peer) (sha256sum .) }}
{{- end }}
{{- end }}
{{- if .Values.monitoring.scrapeAnnotations }}
{{- $port := .Values.config.http.port | default 8080 | toString }}
{{- $ours = merge $ours (dict "prometheus.io/scrape" "true" "prometheus.io/path" "/metrics" "prometheus.io/port" $port) }}
{{- end }}
{{- with merge (include "ccfs-worker.filledIn" (list . .Values.podAnnotations) | fromYaml) $ours }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "ccfs-worker.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "ccfs-worker.selectorLabels" (list . "worker") | fromYaml) }}
{{- $constraints := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $constraints = append $constraints (merge (dict) . (dict "labelSelector" $selector)) }}
{{- end }}
{{- with $constraints }}
{{- toYaml . }}
{{- end }}
{{- end }}
