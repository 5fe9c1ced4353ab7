"""Two hosts on one machine: network namespaces joined by a cable that can be pulled.

Each has processes, a name, shared memory and a ``/tmp/ray`` of its own; the file system is otherwise shared. Needs root
and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("ip", "unshare", "nsenter", "mount")
# The first process of a host: it has its own name, shared memory and place for Ray's sockets, and then waits.
INIT = (
    'hostname "$0" && mount -t tmpfs none /dev/shm && mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray '
    "&& exec sleep 86400"
)


def problem() -> str | None:
    """Why no hosts can be had here; None where they can."""
    if os.geteuid():
        return "network namespaces need root"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(absent)} is not here (iproute2, util-linux)"
    name = f"gloam{os.getpid()}t"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@dataclass(frozen=True)
class Host:
    """One of the two.

    Attributes:
        name, address: of it.
        namespace: of its network.
        device: its end of the cable.
        pid: of its first process, as this machine numbers it.
    """

    name: str
    address: str
    namespace: str
    device: str
    pid: int

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """A command on it; what it prints goes into a file."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--pid", "--mount"]
        with open(log, "ab") as file:
            return subprocess.Popen(
                [*inside, *words], env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT
            )

    def pull(self) -> None:
        """Pull the cable out."""
        subprocess.run(["ip", "-n", self.namespace, "link", "set", self.device, "down"], check=True)

    def kill(self) -> None:
        """Power off: every process of it ends at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def two_hosts(names: tuple[str, str] = ("near", "far")) -> Iterator[tuple[Host, Host]]:
    """Both, joined; when the block ends nothing of them is left."""
    tag = f"gloam{os.getpid()}"
    spaces = [f"{tag}{end}" for end in "ab"]
    devices = [f"v{os.getpid()}{end}" for end in "ab"]
    parents: list[subprocess.Popen[bytes]] = []
    hosts: list[Host] = []
    try:
        for space in spaces:
            _ip("netns", "add", space)
        _ip("link", "add", devices[0], "netns", spaces[0], "type", "veth", "peer", devices[1], "netns", spaces[1])
        for number, (name, space, device) in enumerate(zip(names, spaces, devices, strict=True)):
            address = f"10.77.0.{number + 1}"
            _ip("-n", space, "address", "add", f"{address}/24", "dev", device)
            _ip("-n", space, "link", "set", device, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            apart = ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
            parent = subprocess.Popen(["ip", "netns", "exec", space, *apart, "sh", "-c", INIT, name])
            parents.append(parent)
            hosts.append(Host(name, address, space, device, _first_process(parent)))
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.kill()
        for parent in parents:
            parent.kill()
            parent.wait()
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _first_process(parent: subprocess.Popen[bytes], seconds: float = 20.0) -> int:
    """The child of ``unshare``, once it waits; ``ip`` has become ``unshare`` itself."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and parent.poll() is None:
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                    return int(pid)
        time.sleep(0.05)
    raise RuntimeError("a host did not come up")
