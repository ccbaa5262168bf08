"""Hosts that share nothing but a network: Linux namespaces, joined by a bridge.

May live here: namespaces, cables, and what runs on a host. May not: Dask, certificates, and what Daadkvs does there.

A *lab* is a network namespace with a bridge, and the first process of a world of process ids (pid_namespaces(7)). It
waits for the end of its standard input, whose other end is held here. So however this program ends, even by SIGKILL,
the lab's first process ends as well, and with it the system kills every process of the lab, and removes its networks
and its folders. Since each lab has a network of its own, labs run side by side, and all use the same addresses.

A *host* is nested in the lab. It has process ids, a network with one cable to the bridge, a hostname, and a /tmp of its
own. All other folders are those of the machine, for reading only. So two hosts share what is installed, but
nothing that one of them has written. From outside, /proc/PID/root shows the files of a host, and its processes have
ordinary process ids as well, so that they can be listed and signalled from here.

It takes root or a user namespace, and unshare, nsenter, setpriv and ip (util-linux, iproute2).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from checking.driver import ROOT, send_signal, titles

__all__ = ["PROGRAMS", "Host", "Lab", "LabError", "Listening", "Process", "only_child", "why_not"]

PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "mount", "hostname", "env")
"""What must be installed."""

NETWORK = "10.77.0"
"""The first three numbers of all addresses. It is the lab's own network, so it may exist elsewhere as well."""

_KEEP_OPEN = "echo ready; exec env --ignore-signal=CHLD"
"""How the first process of a world of process ids goes on: whoever ignores SIGCHLD needn't reap what it adopts."""

_GROUND = f"""
ip link set lo up
ip link add bridge type bridge
ip link set bridge up
{_KEEP_OPEN} cat
"""

_ENDS_WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL")

_HOST = f"""
hostname "$1"; hosts=$2; shift 2
mount -t tmpfs -o mode=1777 tmpfs /mnt
for kept; do
    mkdir -p "/mnt/${{kept#/tmp/}}"
    mount --rbind "$kept" "/mnt/${{kept#/tmp/}}"
done
mkdir /mnt/home
printf %s "$hosts" > /mnt/hosts
mount --bind /mnt/hosts /etc/hosts
rm /mnt/hosts
mount --move /mnt /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -o remount,bind,ro /
ip link set lo up
{_KEEP_OPEN} sleep infinity
"""
"""The script of a host's first process: of its name, /etc/hosts, and the folders below /tmp that must stay."""


class Process(NamedTuple):
    """A process of a host."""

    pid: int
    """Its process id outside of the lab."""
    session: int
    """That of the leader of its session."""
    title: str


class Listening(NamedTuple):
    """A TCP port of a host that accepts connections."""

    address: str
    port: int


class LabError(Exception):
    """No lab can be made; the text says why."""


def why_not() -> str | None:
    """Return the reason why there can be no lab on this machine; None if there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)}"
    try:
        with Lab(["probe"]):
            return None
    except LabError as error:
        return f"no namespaces: {error}"


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def only_child(pid: int) -> int:
    """The process id of the one child of a process, as of the program that a `Host.prefix` has become."""
    (child,) = _children(pid)
    return child


class Lab:
    """Hosts, by name. At the end of its `with` block, nothing of it is left."""

    def __init__(self, names: Iterable[str]) -> None:
        """Start a host for each name. Raises LabError."""
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._programs: list[subprocess.Popen[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self._ground = only_child(self._first([*user, "--mount", "--net"], _GROUND).pid)
            self._inside = ("nsenter", "--target", str(self._ground), "--all")
            addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}
            hosts_file = "127.0.0.1 localhost\n" + "".join(f"{at} {name}\n" for name, at in addresses.items())
            self.hosts = {name: self._add(name, address, hosts_file) for name, address in addresses.items()}
        except BaseException:
            self.close()
            raise

    def _first(
        self, namespaces: list[str], script: str, *words: str, inside: Iterable[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start the first process of new namespaces, and wait until its script is ready; returns an ancestor of it."""
        program = subprocess.Popen(
            [*inside, "unshare", *namespaces, "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-euc", script, "sh", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._programs.append(program)
        assert program.stdout is not None
        assert program.stderr is not None
        if program.stdout.readline() != b"ready\n":
            program.kill()
            raise LabError(program.stderr.read().decode(errors="replace").strip() or "it ended")
        return program

    def _add(self, name: str, address: str, hosts_file: str) -> Host:
        kept = [str(path) for path in _installed() if path.is_relative_to("/tmp")]
        program = self._first(
            ["--mount", "--net", "--uts", "--ipc"], _HOST, name, hosts_file, *kept, inside=self._inside
        )
        host = Host(self, name, address, only_child(only_child(program.pid)))
        self.wire(f"link add {name} type veth peer name eth0 netns {host.init}", f"link set {name} up")
        host.join()
        host.do("ip", "address", "add", f"{address}/24", "dev", "eth0")
        host.do("ip", "link", "set", "eth0", "up")
        return host

    def wire(self, *commands: str) -> None:
        """Carry out commands of ip(8) where all cables end. Process ids in them are those from outside."""
        enter = ["nsenter", "--target", str(self._ground), "--net"]
        if os.geteuid() != 0:
            enter += ["--user", "--preserve-credentials"]
        subprocess.run([*enter, "ip", "-batch", "-"], input="\n".join(commands).encode(), check=True)

    def will_end(self, program: subprocess.Popen[bytes]) -> None:
        """Wait for this program when the lab ends, and so its host."""
        self._started.append(program)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the lab, and wait for that."""
        for program in self._programs:
            assert program.stdin is not None
            program.stdin.close()
        for started in self._started:
            # What was frozen has frozen its nsenter as well, which must be awake to see the end of it.
            while started.poll() is None:
                started.send_signal(signal.SIGCONT)
                time.sleep(0.005)
        self._started.clear()
        for program in self._programs:
            program.wait()
            assert program.stdout is not None
            assert program.stderr is not None
            program.stdout.close()
            program.stderr.close()
        self._programs.clear()


def _installed() -> list[Path]:
    """The folders with what runs on the hosts."""
    folders = {ROOT, *(Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix))}
    return sorted(folder for folder in folders if not any(other in folder.parents for other in folders))


class Host:
    """One of the hosts of a lab."""

    def __init__(self, lab: Lab, name: str, address: str, init: int) -> None:
        self._lab = lab
        self.name = name
        self.address = address
        self.init = init
        """The process id, outside of the lab, of its first process; all others end with that."""
        self.prefix = (
            *_ENDS_WITH_ITS_PARENT, "nsenter", "--target", str(init), "--all",
            *_ENDS_WITH_ITS_PARENT, "env", "--chdir=/tmp", "HOME=/tmp/home",
        )  # fmt: skip
        """A command that becomes a process of this host, in its /tmp. (What was started is nsenter: the process is its
        child, ends as soon as nsenter does, and its exit status is nsenter's.)"""

    # -- what runs there -----------------------------------------------------------------------------------

    def do(self, *command: str, timeout: float = 60.0) -> str:
        """Run a command on this host; returns its stdout. Raises CalledProcessError."""
        done = subprocess.run([*self.prefix, *command], stdout=subprocess.PIPE, check=True, timeout=timeout)
        return done.stdout.decode("utf-8", "surrogateescape")

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Start a program on this host, in a session of its own, with its output in the file *log* of this host."""
        with self.path(log).open("ab") as output:
            program = subprocess.Popen(
                [*self.prefix, "setsid", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._lab.will_end(program)
        return program

    def path(self, path: str) -> Path:
        """Where a file of this host is found from outside."""
        return Path(f"/proc/{self.init}/root{path}")

    def processes(self) -> list[Process]:
        """All processes of this host but the first and those that have ended; those that share its process ids."""
        world = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for pid, title in titles().items():
            try:
                if pid != self.init and os.readlink(f"/proc/{pid}/ns/pid") == world:
                    found.append(Process(pid, os.getsid(pid), title))
            except OSError:
                pass  # it has just ended, or is none of ours
        return found

    def signal(self, pid: int, signum: int) -> None:
        """Send a signal to a process of this host, by its id outside of the lab, and wait until it has taken effect."""
        send_signal(pid, signum, f"process {pid}")

    # -- its network ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut the cable: no packet comes or goes. Nobody is told, as where a switch far away fails."""
        self._lab.wire(f"link set {self.name} nomaster")

    def join(self) -> None:
        """Mend the cable."""
        self._lab.wire(f"link set {self.name} master bridge")

    def connections_to(self, other: Host) -> list[int]:
        """The TCP connections with another host, as far as this one knows: of each, how much is not acknowledged."""
        table = Path(f"/proc/{self.init}/net/tcp").read_text()
        address = socket.inet_aton(other.address)[::-1].hex().upper()
        sent = re.findall(rf"^ *\d+: \w+:\w+ {address}:\w+ 01 (\w+):", table, re.MULTILINE)
        return [int(count, 16) for count in sent]

    def closing(self) -> int:
        """How many TCP connections were closed here, and the other host has not acknowledged that yet."""
        table = Path(f"/proc/{self.init}/net/tcp").read_text()
        return len(re.findall(r"^ *\d+: \w+:\w+ \w+:\w+ 0[49B] ", table, re.MULTILINE))  # FIN_WAIT1, LAST_ACK, CLOSING

    def listening(self) -> list[Listening]:
        """The TCP ports that accept connections here, except from this host only."""
        found = []
        for family, length in ((socket.AF_INET, 8), (socket.AF_INET6, 32)):
            table = Path(f"/proc/{self.init}/net/tcp{'6' if length == 32 else ''}").read_text()
            for address, port in re.findall(rf"^ *\d+: (\w{{{length}}}):(\w{{4}}) \w+:\w+ 0A ", table, re.MULTILINE):
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, length, 8)]
                text = socket.inet_ntop(family, b"".join(words))
                if not text.startswith("127.") and text != "::1":
                    found.append(Listening(text, int(port, 16)))
        return sorted(found)
