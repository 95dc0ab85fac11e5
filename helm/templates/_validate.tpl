{{/* What a schema cannot say: values that need or exclude each other. All errors are reported together. */}}

{{- define "ccfs-worker.validate" -}}
{{- $problems := list }}
{{- if not (include "ccfs-worker.baseUrl" .) }}
{{- $problems = append $problems "config.ccfs.baseUrl: is required: where CC-FS is, https://ip:port" }}
{{- end }}

{{- with urlParse (include "ccfs-worker.baseUrl" .) }}
{{- $number := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- $address := printf "^(%s[.]){3}%s$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$|[a-zA-Z_]" $number $number }}
{{- if and .host (not (regexMatch $address .hostname)) }}
{{- $problems = append $problems (printf "config.ccfs.baseUrl: %s is neither an address nor a name" .hostname) }}
{{- end }}
{{- if gt (include "ccfs-worker.port" (list . 443) | int) 65535 }}
{{- $problems = append $problems (printf "config.ccfs.baseUrl: there is no port %s" (include "ccfs-worker.port" (list . 443))) }}
{{- end }}
{{- end }}

{{- with .Values.broker }}
{{- if ne (include "ccfs-worker.count" (list .existingSecret .login.existingSecret .url .volume)) "1" }}
{{- $problems = append $problems "broker: set one of broker.existingSecret (a Secret with the AMQP URL), broker.login.existingSecret (one with user and password), broker.url (for a trial) and broker.volume" }}
{{- end }}
{{- end }}

{{- with .Values.broker }}
{{- if or (and .managementUrlKey (not (or .existingSecret .login.existingSecret))) (and .managementUrl (not .url)) }}
{{- $problems = append $problems "broker: managementUrlKey belongs to existingSecret or login.existingSecret, managementUrl to url; a volume has a file WORKER_AMQP__MANAGEMENT_URL" }}
{{- end }}
{{- end }}

{{- with .Values.accounts }}
{{- if ne (include "ccfs-worker.count" (list .existingSecret .keys .volume)) "1" }}
{{- $problems = append $problems "accounts: set one of accounts.existingSecret (a Secret with one key per appId), accounts.keys (for a trial) and accounts.volume" }}
{{- end }}
{{- end }}

{{- with .Values.storage }}
{{- if ne (include "ccfs-worker.count" (list .existingClaim .newClaim.enabled .emptyDir.enabled .volume)) "1" }}
{{- $problems = append $problems "storage: set one of storage.existingClaim (a ReadWriteMany claim), storage.newClaim.enabled, storage.emptyDir.enabled (for a trial) and storage.volume" }}
{{- end }}
{{- end }}

{{- if and .Values.storage.newClaim.enabled (has "ReadWriteOncePod" .Values.storage.newClaim.accessModes) }}
{{- $scales := or .Values.autoscaling.keda.enabled .Values.autoscaling.hpa.enabled (gt (int .Values.replicaCount) 1) }}
{{- if or $scales .Values.helmTest.enabled (ne .Values.strategy.type "Recreate") }}
{{- $problems = append $problems "storage.newClaim.accessModes: of ReadWriteOncePod only one pod can be at a time: set strategy.type to Recreate, replicaCount to 1 and helmTest.enabled to false, or use ReadWriteMany" }}
{{- end }}
{{- end }}

{{- range $peer, $tls := .Values.tls }}
{{- with $tls.ca }}
{{- if gt (include "ccfs-worker.count" (list .pem .existingConfigMap .existingSecret) | int) 1 }}
{{- $problems = append $problems (printf "tls.%s.ca: set only one of pem, existingConfigMap and existingSecret" $peer) }}
{{- end }}
{{- end }}
{{- end }}

{{- if and .Values.autoscaling.keda.enabled .Values.autoscaling.hpa.enabled }}
{{- $problems = append $problems "autoscaling: keda.enabled and hpa.enabled exclude each other: KEDA makes a HorizontalPodAutoscaler of its own" }}
{{- end }}
{{- range $kind, $scaler := .Values.autoscaling }}
{{- if and $scaler.enabled (gt (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{- $problems = append $problems (printf "autoscaling.%s: minReplicas (%d) is above maxReplicas (%d)" $kind (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{- end }}
{{- end }}
{{- with .Values.autoscaling.keda }}
{{- if and .enabled (ne (include "ccfs-worker.count" (list .managementApi.existingSecret .managementApi.url .managementApi.authenticationRef)) "1") }}
{{- $problems = append $problems "autoscaling.keda.managementApi: set one of existingSecret (a Secret with the URL of RabbitMQ's management API), url (for a trial) and authenticationRef" }}
{{- end }}
{{- end }}

{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (kindIs "invalid" .maxUnavailable) (kindIs "invalid" .minAvailable) }}
{{- $problems = append $problems "podDisruptionBudget: set one of maxUnavailable and minAvailable" }}
{{- end }}
{{- end }}

{{- $grace := include "ccfs-worker.seconds" (list .Values.config.shutdownGrace 30) | int }}
{{- $termination := include "ccfs-worker.terminationGracePeriodSeconds" . | int }}
{{- if le $termination $grace }}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d must be above config.shutdownGrace (%d), or downloads are cut off before their time" $termination $grace) }}
{{- end }}

{{- range .Values.extraEnv }}
{{- if hasPrefix "WORKER_" .name }}
{{- $problems = append $problems (printf "extraEnv: %s is a setting of the worker: set it under config" .name) }}
{{- end }}
{{- end }}

{{- if $problems }}
{{- fail (printf "\n\nThese values need a change:\n  - %s\n" (join "\n  - " $problems)) }}
{{- end }}
{{- end }}

{{/* How many of a list's items are set. */}}
{{- define "ccfs-worker.count" -}}
{{- $count := 0 }}
{{- range . }}
{{- if . }}{{ $count = add1 $count }}{{ end }}
{{- end }}
{{- $count }}
{{- end }}
