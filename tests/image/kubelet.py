"""As much of a kubelet as the chart's pods need: makes their volumes, and runs their containers."""

import base64
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devkit.run.image import IMAGE, Podman
from tests.helm.release import Document, Release


class UnsupportedError(Exception):
    """A pod asks for something that is not built here."""


@dataclass(frozen=True)
class Container:
    """A running or ended container.

    Attributes:
        podman: what runs it.
        name: its name.
        log_file: what it printed, as the kubelet keeps it.
    """

    podman: Podman
    name: str
    log_file: Path

    @property
    def log(self) -> str:
        """What it printed."""
        # Each line comes after its time, its stream and a mark for lines cut in two.
        return "\n".join(line.split(" ", 3)[-1] for line in self.log_file.read_text().splitlines())

    def wait(self) -> int:
        """Waits for its end and gives the exit code."""
        return int(self.podman("wait", self.name))

    def signal(self, number: signal.Signals) -> None:
        """Sends its first process a signal, as Kubernetes does to end a pod."""
        self.podman("kill", f"--signal={number.value}", self.name)

    def exec(self, *words: str) -> str:
        """Runs a command in it, as `kubectl exec` does, and gives what it printed."""
        return self.podman("exec", self.name, *words)


class Kubelet:
    """Runs the pods of a release.

    Args:
        podman: runs the containers.
        release: whose Secrets, ConfigMaps and Services the pods refer to.
        folder: where volumes are made.
    """

    def __init__(self, podman: Podman, release: Release, folder: Path) -> None:
        self._podman = podman
        self._release = release
        self._folder = folder
        self._started: list[Container] = []

    def start(self, pod: Document, name: str) -> dict[str, Container]:
        """Runs a pod's init containers to their end, and starts its containers.

        Args:
            pod: the pod's specification.
            name: how the pod is called.

        Returns:
            The containers by name, the init containers among them.

        Raises:
            UnsupportedError: the pod asks for more than is built here.
            AssertionError: an init container failed.
        """
        volumes = {volume["name"]: self._volume(volume, pod, name) for volume in pod["volumes"]}
        containers: dict[str, Container] = {}
        for spec in pod.get("initContainers", ()):
            container = containers[spec["name"]] = self._run(spec, pod, volumes, name)
            assert container.wait() == 0, container.log
        for spec in pod["containers"]:
            containers[spec["name"]] = self._run(spec, pod, volumes, name)
        return containers

    def volume(self, pod: str, volume: str) -> Path:
        """Where a pod's volume is."""
        return self._folder / pod / volume

    def remove_all(self) -> None:
        """Ends and removes every container."""
        for container in self._started:
            self._podman("rm", "--force", "--time=0", container.name)

    def _run(self, spec: Document, pod: Document, volumes: Mapping[str, Path], name: str) -> Container:
        # Containers of different tests share podman's storage.
        full_name = f"{self._folder.name}-{name}-{spec['name']}"
        container = Container(self._podman, full_name, self._folder / f"{full_name}.log")
        hosts = [service["metadata"]["name"] for service in self._release.all("Service")]
        words = self._podman.run(
            "--detach",
            f"--name={full_name}",
            "--network=host",
            "--log-driver=k8s-file",
            f"--log-opt=path={container.log_file}",
            *_security({**pod["securityContext"], **spec["securityContext"]}),
            *(f"--env={entry['name']}={entry['value']}" for entry in spec.get("env", ())),
            *(f"--add-host={host}:127.0.0.1" for host in hosts),
            *(_mount(mount, volumes) for mount in spec["volumeMounts"]),
            IMAGE,
            *spec["args"],
        )
        self._started.append(container)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return container

    def _volume(self, volume: Document, pod: Document, name: str) -> Path:
        folder = self.volume(name, volume["name"])
        match volume:
            case {"emptyDir": _}:
                folder.mkdir(parents=True)
                os.chown(folder, 0, pod["securityContext"]["fsGroup"])
                folder.chmod(0o2777)
            case {"secret": source}:
                data = self._data("Secret", source["secretName"])
                publish(folder, _items({key: base64.b64decode(data[key]) for key in data}, source))
            case {"configMap": source}:
                data = self._data("ConfigMap", source["name"])
                publish(folder, _items({key: data[key].encode() for key in data}, source))
            case _:
                raise UnsupportedError(f"a volume like {volume}")
        return folder

    def _data(self, kind: str, name: str) -> Mapping[str, str]:
        (found,) = (one["data"] for one in self._release.all(kind) if one["metadata"]["name"] == name)
        assert isinstance(found, dict)
        return found


def publish(folder: Path, data: Mapping[str, bytes]) -> None:
    """Writes files the way the kubelet does: all together, behind a link that is swapped."""
    folder.mkdir(parents=True, exist_ok=True)
    link, fresh = folder / "..data", folder / "..data_tmp"
    old = link.resolve()
    new = folder / f"..version-{os.urandom(4).hex()}"
    new.mkdir()
    for name, content in data.items():
        (new / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    fresh.symlink_to(new.name)
    fresh.replace(link)
    if old != link:
        shutil.rmtree(old)


def _items(data: Mapping[str, bytes], source: Document) -> Mapping[str, bytes]:
    if "items" not in source:
        return data
    return {item["path"]: data[item["key"]] for item in source["items"]}


def _security(asked: Document) -> Iterator[str]:
    context = dict(asked)
    yield f"--user={context.pop('runAsUser')}:{context.pop('runAsGroup')}"
    yield f"--group-add={context.pop('fsGroup')}"
    if context.pop("readOnlyRootFilesystem"):
        yield from ("--read-only", "--read-only-tmpfs=false")
    if not context.pop("allowPrivilegeEscalation"):
        yield "--security-opt=no-new-privileges"
    yield from (f"--cap-drop={name.lower()}" for name in context.pop("capabilities")["drop"])
    # What podman does anyway, or only a kubelet can do.
    for name in ("runAsNonRoot", "seccompProfile", "fsGroupChangePolicy"):
        del context[name]
    if context:
        raise UnsupportedError(f"a security context with {context}")


def _mount(mount: Document, volumes: Mapping[str, Path]) -> str:
    access = ":ro" if mount.get("readOnly") else ""
    return f"--volume={volumes[mount['name']]}:{mount['mountPath']}{access}"


@contextmanager
def kubelet(podman: Podman, release: Release, folder: Path) -> Iterator[Kubelet]:
    """Runs pods until left."""
    running = Kubelet(podman, release, folder)
    try:
        yield running
    finally:
        running.remove_all()
