"""What the worker shows over HTTP: probes for kubelet, metrics for Prometheus, its status for people."""

from worker.web.server import serve

__all__ = ["serve"]
