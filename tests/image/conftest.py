"""The image that `make image-test` built, and pods of the chart that run it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import helm_python as helm
import pytest

from devkit.run.broker import Broker
from devkit.run.image import IMAGE, Podman
from tests.helm.release import CHART, FIVE, MATRIX, NAME, Release, Values, merged, render
from tests.image.kubelet import Kubelet, kubelet

Rendered = Callable[..., Release]
Node = Callable[[Release], Kubelet]


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Podman with the image."""
    found = Podman()
    if not found.has(IMAGE):
        pytest.fail(f"there is no image {IMAGE}: run `make image-test`")
    return found


@pytest.fixture
def rendered(rabbitmq: Broker, prefix: str) -> Rendered:
    """Renders the chart's trial values, with this run's broker and queues of the test's own."""
    repository, _, tag = IMAGE.rpartition(":")
    ours = {
        "image": {"repository": repository, "tag": tag},
        "broker": {"url": rabbitmq.url},
        "simulator": {"extraArgs": []},
        "config": {
            "amqp": {
                "jobsQueue": f"{prefix}.jobs",
                "resultsExchange": f"{prefix}.results",
                "resultsQueue": f"{prefix}.results",
                "deadQueue": f"{prefix}.dead",
                "failedQueue": f"{prefix}.failed",
            }
        },
    }

    def make(*layers: Values) -> Release:
        with helm.Chart.load(CHART) as chart:
            return render(chart, merged(FIVE, MATRIX["trial"], ours, *layers), NAME)

    return make


@pytest.fixture
def node(podman: Podman, tmp_path: Path) -> Iterator[Node]:
    """Makes a kubelet for a release; its pods end with the test."""
    with ExitStack() as stack:
        yield lambda release: stack.enter_context(kubelet(podman, release, tmp_path))
