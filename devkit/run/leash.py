"""Run a command that cannot outlive the process that started it.

`Leashed` starts this file as a script, with a pipe for its input, and the script starts the command: when the
pipe closes, however its owner ended, the command is killed. The kernel's parent-death signal alone would not
be enough: it fires when the *thread* that forked ends, and tests start brokers from short-lived threads.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class Leashed:
    """A command running in a process group of its own, out of reach of the terminal's Ctrl-C."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], output: Path) -> None:
        """Start the command.

        Args:
            command: The program and its arguments.
            env: Its whole environment.
            output: The file for what it prints.
        """
        with output.open("wb") as file:
            self._leash = subprocess.Popen(
                # Isolated and without site packages, the leash is up in 20 ms.
                [sys.executable, "-I", "-S", __file__, *command],
                env=env,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The leash's process id: the command is its child."""
        return self._leash.pid

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return self._leash.poll() is None

    def wait(self) -> int:
        """Block until the command ends by itself, and return its exit code."""
        return self._leash.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal, which the leash does not get: frozen, it would hold nothing."""
        children = Path(f"/proc/{self._leash.pid}/task/{self._leash.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), number)

    def terminate(self, patience: float) -> None:
        """Ask the command to end.

        Args:
            patience: Seconds after which it is killed instead.
        """
        if self.running:
            os.killpg(self._leash.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._leash.wait(patience)
        self.kill()

    def kill(self) -> None:
        """Kill the command, and return when it is gone."""
        if self._leash.stdin:
            self._leash.stdin.close()
        self._leash.wait()


def _die_with_the_leash() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    # Not through sys.stdin, whose lock a thread may not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    child.kill()


def _hold(command: Sequence[str]) -> int:
    # A handler, unlike SIG_IGN, is not inherited: a SIGTERM to the group is for the command alone to act on.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_the_leash,  # noqa: PLW1509 - no second thread yet
    ) as child:
        threading.Thread(target=_kill_at_end_of_input, args=(child,), daemon=True).start()
        return child.wait()


if __name__ == "__main__":
    sys.exit(_hold(sys.argv[1:]))
