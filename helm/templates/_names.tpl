{{/* Names and labels. Selectors must never change: Kubernetes refuses an upgrade that changes them. */}}

{{- define "ccfs-worker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters, so that the longest suffix still fits into the 63 of a label. */}}
{{- define "ccfs-worker.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "ccfs-worker.serviceAccountName" -}}
{{- $own := ternary (include "ccfs-worker.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $own .Values.serviceAccount.name }}
{{- end }}

{{/* Arguments: the root and the component. */}}
{{- define "ccfs-worker.selectorLabels" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "ccfs-worker.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Labels that say whose an object is. Arguments: the root and the component. */}}
{{- define "ccfs-worker.labels" -}}
{{- $root := first . -}}
{{ include "ccfs-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: without the chart's version, so that a new chart with the same image restarts nothing.
     Arguments: the root and the component. */}}
{{- define "ccfs-worker.podLabels" -}}
{{- $root := first . -}}
{{ include "ccfs-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- with merge (dict) $root.Values.podLabels $root.Values.commonLabels }}
{{ tpl (toYaml .) $root }}
{{- end }}
{{- end }}

{{- define "ccfs-worker.image" -}}
{{- with .Values.image }}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}
