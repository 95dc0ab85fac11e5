{{/* The worker's settings, and what is derived from them. */}}

{{/* Environment of every container that runs the worker's program. */}}
{{- define "ccfs-worker.env" -}}
- name: WORKER_SECRETS_DIR
  value: /etc/ccfs-worker/broker
{{- with .Values.broker.login }}
{{- if .existingSecret }}
{{- range $name, $key := empty .host | ternary (dict "BROKER_HOST" .hostKey "BROKER_PORT" .portKey) dict }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.broker.login.existingSecret }}
      key: {{ $key | quote }}
{{- end }}
- name: WORKER_AMQP__URL
  value: {{ include "ccfs-worker.bareUrl" $ | quote }}
{{- end }}
{{- end }}
- name: WORKER_CREDENTIALS__DIR
  value: /etc/ccfs-worker/accounts
- name: WORKER_STORAGE__ROOT
  value: {{ .Values.storage.mountPath | quote }}
{{- if include "ccfs-worker.caVolume" (list . "broker") }}
- name: WORKER_AMQP__CA_FILE
  value: /etc/ccfs-worker/broker-ca/ca.crt
{{- end }}
{{- if include "ccfs-worker.caVolume" (list . "ccfs") }}
- name: WORKER_CCFS__CA_FILE
  value: /etc/ccfs-worker/ccfs-ca/ca.crt
{{- end }}
{{- if .Values.tls.broker.clientCertificate.existingSecret }}
- name: WORKER_AMQP__CERT_FILE
  value: /etc/ccfs-worker/broker-client/tls.crt
- name: WORKER_AMQP__KEY_FILE
  value: /etc/ccfs-worker/broker-client/tls.key
{{- end }}
{{- if and .Values.simulator.enabled (not .Values.config.ccfs.baseUrl) }}
{{- include "ccfs-worker.variable" (list "ccfs__base_url" (include "ccfs-worker.baseUrl" .)) }}
{{- end }}
{{- range $key, $value := .Values.config }}
{{- if kindIs "map" $value }}
{{- range $field, $inner := $value }}
{{- include "ccfs-worker.variable" (list (printf "%s__%s" (snakecase $key) (snakecase $field)) $inner) }}
{{- end }}
{{- else }}
{{- include "ccfs-worker.variable" (list (snakecase $key) $value) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{/* One variable; nothing when it is unset. Arguments: its name without the prefix, and its value, which becomes
     JSON unless it is text: Go would write 10737418240 as 1.073741824e+10. */}}
{{- define "ccfs-worker.variable" -}}
{{- $value := last . }}
{{- if not (kindIs "invalid" $value) }}
- name: WORKER_{{ first . | upper }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}

{{/* Where CC-FS is, or the simulator in its place. */}}
{{- define "ccfs-worker.baseUrl" -}}
{{- $simulator := printf "http://%s-simulator:8443" (include "ccfs-worker.fullname" .) }}
{{- .Values.config.ccfs.baseUrl | default (ternary $simulator "" .Values.simulator.enabled) }}
{{- end }}

{{/* A number of seconds, rounded up. Arguments: the value, and the worker's own default for when it is unset. */}}
{{- define "ccfs-worker.seconds" -}}
{{- kindIs "invalid" (first .) | ternary (last .) (first .) | float64 | ceil | int }}
{{- end }}

{{/* What SIGTERM may take: the worker stops consuming, lets downloads finish within the grace and gives the rest
     back, and before and after waits for the broker's word. */}}
{{- define "ccfs-worker.terminationGracePeriodSeconds" -}}
{{- $grace := include "ccfs-worker.seconds" (list .Values.config.shutdownGrace 30) | int }}
{{- $publish := include "ccfs-worker.seconds" (list .Values.config.amqp.publishTimeout 15) | int }}
{{- .Values.terminationGracePeriodSeconds | default (add $grace (mul 2 $publish) 15) }}
{{- end }}

{{/* Seconds a lower need must last before pods end: longer than a job, which would be downloaded again if its pod
     ended first. Kubernetes allows an hour. */}}
{{- define "ccfs-worker.scaleDownStabilization" -}}
{{- $job := include "ccfs-worker.seconds" (list .Values.config.jobTimeout 1500) | int }}
{{- include "ccfs-worker.seconds" (list .Values.autoscaling.keda.scaleDownStabilization (min 3600 (add $job 60))) }}
{{- end }}

{{/* How many pods there are at least. */}}
{{- define "ccfs-worker.leastPods" -}}
{{- if .Values.autoscaling.keda.enabled }}{{ .Values.autoscaling.keda.minReplicas }}
{{- else if .Values.autoscaling.hpa.enabled }}{{ .Values.autoscaling.hpa.minReplicas }}
{{- else }}{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{/* How many pods the Deployment asks for. With a scaler, as many as it asks for already: without the number, the
     upgrade that turns a scaler on would leave one pod. None where there is no Deployment yet, or nothing to look at
     (`helm template`). */}}
{{- define "ccfs-worker.replicas" -}}
{{- if or .Values.autoscaling.keda.enabled .Values.autoscaling.hpa.enabled }}
{{- $found := lookup "apps/v1" "Deployment" (include "ccfs-worker.namespace" .) (include "ccfs-worker.fullname" .) }}
{{- with $found }}{{ .spec.replicas }}{{ end }}
{{- else }}{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{/* Scale up immediately, and down slowly. */}}
{{- define "ccfs-worker.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
scaleDown:
  stabilizationWindowSeconds: {{ include "ccfs-worker.scaleDownStabilization" . }}
  policies:
    - type: Percent
      value: 50
      periodSeconds: 60
{{- end }}

{{- define "ccfs-worker.jobsQueue" -}}
{{- .Values.config.amqp.jobsQueue | default "ccfs.jobs" }}
{{- end }}

{{/* A port in a URL. Arguments: the URL as urlParse gives it, and the port when it names none. */}}
{{- define "ccfs-worker.port" -}}
{{- regexFind ":[0-9]+$" (first .).host | trimPrefix ":" | default (last . | toString) }}
{{- end }}
