"""Puts files on the shared storage: whole, verified and durable under their final name, or not at all.

A file is written under a temporary name beside its target (`worker.core.paths`), hashed on the way,
flushed to disk, checked as a zip and then renamed, which POSIX makes atomic (rename(2)). The directory is
flushed last, since only that makes the new name durable (fsync(2)).
"""

from worker.storage.errors import STALE, StaleRootError
from worker.storage.files import SharedStorage
from worker.storage.mount import CASE_FOLDED, has_mount, is_case_folded
from worker.storage.sweep import Sweep
from worker.storage.threads import Call, Threads
from worker.storage.tree import Look, RootRules, Space

__all__ = [
    "CASE_FOLDED",
    "STALE",
    "Call",
    "Look",
    "RootRules",
    "SharedStorage",
    "Space",
    "StaleRootError",
    "Sweep",
    "Threads",
    "has_mount",
    "is_case_folded",
]
