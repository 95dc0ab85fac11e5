"""Shows what the worker does: logs, metrics, traces, status and the page."""
