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

{{- define "ccfs-worker.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
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

{{/* The metadata of every object. No key twice: the API refuses that. Of a map: the root; and, where they are
     not the usual ones, the component, the suffix of the name or all of it, the namespace, and labels and annotations
     of the object's own, which win. */}}
{{- define "ccfs-worker.metadata" -}}
{{- $root := .root -}}
name: {{ default (print (include "ccfs-worker.fullname" $root) (default "" .suffix)) .name }}
namespace: {{ default (include "ccfs-worker.namespace" $root) .namespace }}
labels:
  {{- $ours := include "ccfs-worker.labels" (list $root (default "worker" .component)) | fromYaml }}
  {{- toYaml (merge (dict) (default dict .labels) $ours (include "ccfs-worker.filledIn" (list $root $root.Values.commonLabels) | fromYaml)) | nindent 2 }}
{{- with merge (dict) (default dict .annotations) (include "ccfs-worker.filledIn" (list $root $root.Values.commonAnnotations) | fromYaml) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A map of the values, its templates filled in. Arguments: the root, and the map. */}}
{{- define "ccfs-worker.filledIn" -}}
{{- tpl (last . | toYaml) (first .) }}
{{- end }}

{{/* Labels that say whose an object is. Arguments: the root and the component. */}}
{{- define "ccfs-worker.labels" -}}
{{- $root := first . -}}
{{ include "ccfs-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a pod: without the chart's version, so that a new chart with the same image restarts nothing.
     Arguments: the root and the component. */}}
{{- define "ccfs-worker.podLabels" -}}
{{- $root := first . -}}
{{- $selector := include "ccfs-worker.selectorLabels" . | fromYaml }}
{{- $version := dict "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $own := include "ccfs-worker.filledIn" (list $root $root.Values.podLabels) | fromYaml }}
{{- toYaml (merge (dict) $selector $own $version (include "ccfs-worker.filledIn" (list $root $root.Values.commonLabels) | fromYaml)) }}
{{- end }}

{{- define "ccfs-worker.image" -}}
{{- with .Values.image }}
{{- with ($.Values.global).imageRegistry | default .registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Whether this is OpenShift, which chooses user and group itself: empty when not. */}}
{{- define "ccfs-worker.openshift" -}}
{{- $found := .Capabilities.APIVersions.Has "security.openshift.io/v1" }}
{{- if kindIs "invalid" .Values.openshift.enabled | ternary $found .Values.openshift.enabled }}true{{ end }}
{{- end }}
