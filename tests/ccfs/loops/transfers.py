"""Downloads from a server that plays a script."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from worker.ccfs import CcfsClient

OpenTo = Callable[..., AbstractAsyncContextManager[CcfsClient]]
"""Opens a client to a server that plays a script."""
