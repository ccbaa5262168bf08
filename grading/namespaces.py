"""Namespaces of one's own, where the kernel allows them: processes, network and mounts that nobody else sees.

May live here: the calls of Linux that this takes. May not: what is run within.

With a network of its own, each of thirty submissions can listen on the same fixed port. With process ids of its own,
all that a submission has forked ends when its first process does, whatever it did to get away (pid_namespaces(7)). A
user namespace is what lets somebody who isn't root have the others (user_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

__all__ = ["are_allowed", "enter", "mount_proc"]

_NEW_NAMESPACES = 0x00020000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID and CLONE_NEWNET."""

_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter() -> None:
    """Take this process into namespaces of its own; its next child is the first process of a new world of ids.

    Raises OSError where that isn't allowed; the process may then be between two worlds, and should end. The process
    must have one thread.
    """
    user, group = os.geteuid(), os.getegid()
    _checked(_LIBRARY.unshare(_NEW_NAMESPACES))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def mount_proc() -> None:
    """For the first process of a new world of ids: have /proc show that world. Raises OSError."""
    _checked(_LIBRARY.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None))
    _checked(_LIBRARY.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), None))


def are_allowed() -> bool:
    """Whether all of it works here. Forks, and must be called by a process with one thread."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    status = 1
    try:
        enter()
        first = os.fork()
        if first == 0:
            mount_proc()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    except OSError:
        pass
    finally:
        os._exit(status)
