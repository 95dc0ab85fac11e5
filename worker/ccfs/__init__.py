"""The client of CC-FS: sends one signed POST for a file, classifies the response, streams the body.

Sources of the rules: CC-FS "Downloading CDRs and Recording Indexes" (request, response), its result codes
(page cec_07_0835), its authentication "auth-v2" (see `worker.ccfs.signing`), and the RFCs named where they
count.
"""

from worker.ccfs.client import CcfsClient, FileStream, ProbeAnswer, open_client
from worker.ccfs.request import DOWNLOAD_PATH, host_and_port, signing_request

__all__ = [
    "DOWNLOAD_PATH",
    "CcfsClient",
    "FileStream",
    "ProbeAnswer",
    "host_and_port",
    "open_client",
    "signing_request",
]
