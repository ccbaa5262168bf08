"""RPyC, without the parts of it that nothing here uses: it is imported in this room, and nowhere else.

May live here: importing RPyC. May not: anything else.

All of RPyC takes longer to import than all of Daadkvs. A good part of that time goes to what Daadkvs has no use for:
RPyC's own servers, factories and command lines, and TLS. Only its package `rpyc.core` is used: connections, brine (its
serialization), and streams. What crosses a connection is RPyC's own protocol all the same.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["Channel", "Connection", "Service", "Stream", "brine", "consts"]


class _Package(ModuleType):
    """The package `rpyc`, whose `__init__.py` runs when somebody asks for the first name that stands in it."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None and self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


_spec = None if "rpyc" in sys.modules else PathFinder.find_spec("rpyc")
_without_ssl = _spec is not None and "ssl" not in sys.modules
if _spec is not None:
    sys.modules["rpyc"] = module_from_spec(_spec)
if _without_ssl:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # an import of it fails; RPyC can do without

from rpyc.core import Channel, Connection, Service, brine, consts  # noqa: E402
from rpyc.core.stream import Stream  # noqa: E402

if _without_ssl:
    del sys.modules["ssl"]
if _spec is not None:
    sys.modules["rpyc"].__class__ = _Package
