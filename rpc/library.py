"""Packages without the parts of them that nothing here uses: RPyC and setproctitle are imported here, and nowhere else.

May live here: importing them. May not: anything else.

All of RPyC takes longer to import than all of Daadkvs. Most of that time goes to what Daadkvs has no use for: RPyC's
own servers, factories and command lines, TLS, the proxies of remote objects, and what these need of Python's standard
library. So of `rpyc.core` only connections, services, channels with their streams, and brine (the serialization) are
run here. The other modules are there, but each runs when somebody asks for the first name in it. What crosses a
connection is RPyC's own protocol all the same.

setproctitle consists of a module in C and a package around it, which imports logging. The module is enough.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["Channel", "Connection", "Service", "Stream", "brine", "consts", "parts_of", "postpone", "set_title"]

POSTPONED = ("concurrent.futures", "inspect", "logging", "pickle", "random", "traceback", "rpyc.core.netref")
"""What RPyC imports, and does not need where nothing fails and only plain values are sent."""


class _Postponed(ModuleType):
    """A module that runs when somebody asks for the first name in it.

    (`importlib.util.LazyLoader` is no way to have this: before Python 3.13, importing such a module again runs it.)
    """

    _running: dict[str, threading.RLock] = {}  # noqa: RUF012 - by the name of the module
    """Held while a module runs. (One lock for all could be held by a thread that waits for an import of another thread,
    which waits for this lock.)"""
    _begun: set[str] = set()  # noqa: RUF012 - the names of those that have been run, by whichever thread

    def __getattr__(self, name: str) -> Any:
        with self._running[self.__name__]:  # another thread waits until the module has run
            if self.__name__ not in self._begun:
                self._begun.add(self.__name__)
                assert self.__spec__ is not None and self.__spec__.loader is not None
                try:
                    self.__spec__.loader.exec_module(self)
                except BaseException:
                    self._begun.discard(self.__name__)  # the next one tries again, as an import would
                    raise
        return ModuleType.__getattribute__(self, name)


@contextmanager
def parts_of(*packages: str) -> Iterator[None]:
    """Within this, modules of packages are imported without the packages themselves.

    *packages*: each after the one that it is in, if it is in one; those that are there already stay as they are. Until
    this is left, they have no names but those of modules, in no thread. Afterwards, a package runs when somebody asks
    for the first name in it that is not a module imported by then. If anything is raised within, the packages are
    removed with their modules, and can be imported whole. Raises ModuleNotFoundError.
    """
    added: list[ModuleType] = []
    try:
        added.extend(_not_run(name) for name in packages if name not in sys.modules)
        yield
    except BaseException:
        for module in added:
            inside = f"{module.__name__}."
            for name in [name for name in sys.modules if f"{name}.".startswith(inside)]:
                del sys.modules[name]
        raise
    for module in added:
        module.__class__ = _Postponed


def _not_run(name: str) -> ModuleType:
    """Have a module in `sys.modules` that has not run. Raises ModuleNotFoundError."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.modules[name] = module = module_from_spec(spec)
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules[package], last, module)
    _Postponed._running[name] = threading.RLock()
    return module


def postpone(*names: str) -> None:
    """Have modules run when somebody asks for the first name in them; those that are there stay as they are.

    Raises ModuleNotFoundError.
    """
    with parts_of(*names):
        pass


_without_ssl = "ssl" not in sys.modules
if _without_ssl:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # an import of it fails; RPyC can do without
with parts_of("rpyc", "rpyc.core", "setproctitle"):
    postpone(*POSTPONED)
    from rpyc.core import brine, consts
    from rpyc.core.channel import Channel
    from rpyc.core.protocol import Connection
    from rpyc.core.service import Service
    from rpyc.core.stream import Stream

    try:
        from setproctitle._setproctitle import setproctitle as set_title
    except ImportError:  # the module can't be had on this platform

        def set_title(title: str) -> None:
            """Have ps show this process as *title*: that is not possible here."""


if _without_ssl:
    del sys.modules["ssl"]
