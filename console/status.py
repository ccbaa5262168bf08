"""What the prompt's `status` shows of a cluster: tables, and a small picture of the links, as text.

May live here: how the state of a cluster is drawn. May not: what the state is, and how it is obtained
(control/overview.py); sockets, files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from control.overview import ClientOverview, Overview

__all__ = ["draw", "wrapped"]

MATRIX_SERVERS = 10
"""For how many running servers, at most, the links are shown as a picture. If there are more, or the picture would be
too wide, they are shown as a list."""

CLIENTS = 10
"""For how many clients, at most, each has a row of its own in any case."""

FEW_CHARACTERS = 12
"""The longest list of ids within a sentence."""

IDS_CHARACTERS = 16
"""The longest list of ids at the beginning of a row; longer ones take several rows."""

TEXT_COLUMNS = 20
"""The width that a column of text needs to be wrapped in its place. If there is less, the text is placed below."""

CHANGED = "* has changed since the last status"


class _Row(NamedTuple):
    """What is said of a server or a client: its *cells* without its id and its process."""

    ident: int
    process: str
    state: str
    cells: tuple[str, ...]
    changed: bool


def draw(overview: Overview, width: int, height: int | None = None, before: Overview | None = None) -> list[str]:
    """The lines that show the state of a cluster, for a terminal of *width* columns.

    Where more than *height* lines would be needed, the links of each server are only counted. *before*: the state that
    was shown last; what has changed since then is marked.
    """
    if not overview.servers:
        how = "joinServer 0 starts a server, and then joinClient 5 0 a client"
        return wrapped("", f"nothing has been started yet; {how}", width)
    lines = _draw(overview, width, before, counted=False)
    if height is not None and len(lines) > height and len(overview.links) > MATRIX_SERVERS:
        lines = _draw(overview, width, before, counted=True)
    return lines


def _draw(overview: Overview, width: int, before: Overview | None, counted: bool) -> list[str]:
    parts = overview.partitions()
    servers = [*_servers(overview, parts, width, before, counted)]
    lines = _table(servers, width)
    if len(parts) > 1:
        lines += wrapped("partitions: ", " | ".join(_ranges(part) for part in parts), width)
    shapes = _shapes(overview)
    if shapes:
        lines += wrapped("delay, jitter and loss: ", shapes, width)
    clients = [*_clients(overview, before)] if overview.clients else []
    if clients:
        lines += ["", *_table(clients, width)]
    if any(cells[0].startswith("*") for cells in servers + clients):
        lines += wrapped("", CHANGED, width)
    return lines


def _folded(rows: Iterable[_Row], folds: bool) -> Iterator[tuple[str, ...]]:
    """The cells of these rows; where it *folds*, rows that say the same are one."""
    groups: dict[tuple[object, ...], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.state, row.cells, row.changed, None if folds else row.ident), []).append(row)
    for first, *others in groups.values():
        for ids in _chunks([first.ident, *(row.ident for row in others)]):
            yield "*" * first.changed + ids, first.state, "" if others else first.process, *first.cells


def _chunks(idents: list[int]) -> Iterator[str]:
    """Ids in a short form, in pieces of at most `IDS_CHARACTERS`."""
    piece = ""
    for span in _ranges(idents).split(", "):
        if piece and len(piece) + len(span) + 2 > IDS_CHARACTERS:
            yield piece
            piece = ""
        piece += ", " * bool(piece) + span
    yield piece


# -- servers -----------------------------------------------------------------------------------------------


def _servers(
    overview: Overview, parts: list[list[int]], width: int, before: Overview | None, counted: bool
) -> Iterator[tuple[str, ...]]:
    """The servers as rows, grouped by partition. Servers that have been killed come last."""
    running = [ident for part in parts for ident in part]
    digits = max(len(str(ident)) for ident in overview.servers)
    head = _picture("links", [str(ident) for ident in running], digits)
    as_picture = len(running) <= MATRIX_SERVERS and len(head) + len("server  killed  process  ") <= width
    folds = len(overview.servers) > MATRIX_SERVERS
    yield "server", "state", "process", head if as_picture else "links", "reaches", "store"
    said = _said(overview)
    said_before = _said(before) if before is not None else said
    rows: list[_Row] = []
    for part in parts:
        for ident in part:
            links = overview.links[ident]
            if as_picture:
                shown = _picture("", [_mark(ident, other, links) for other in running], digits)
            elif counted:
                shown = f"{len(links)}"
            else:
                shown = "all others" if links == {*part} - {ident} != set() else _ranges(links) or "none"
            changed = said[ident] != said_before.get(ident)
            cells = (shown, _belief(ident, part, overview), _behind(ident, part, overview))
            rows.append(_Row(ident, _process(overview, ident, overview.servers[ident]), "up", cells, changed))
    yield from _folded(rows, folds)
    killed = [ident for ident, pid in sorted(overview.servers.items()) if pid is None]
    rows = [_Row(ident, "", "killed", ("", "", ""), said[ident] != said_before.get(ident)) for ident in killed]
    yield from _folded(rows, folds)


def _said(overview: Overview) -> dict[int, tuple[object, ...]]:
    """What is said of each server."""
    said: dict[int, tuple[object, ...]] = dict.fromkeys(overview.servers, ())
    for part in overview.partitions():
        for ident in part:
            facts = _belief(ident, part, overview), _behind(ident, part, overview)
            said[ident] = overview.servers[ident], overview.links[ident], *facts
    return said


def _process(overview: Overview, ident: int, pid: int | None) -> str:
    """The id of a process, behind its host, if there are several."""
    return " ".join([overview.hosts[ident], str(pid)] if ident in overview.hosts else [str(pid)])


def _picture(head: str, cells: list[str], digits: int) -> str:
    """A line of the picture of the links: a row of marks, or the ids above them."""
    return f"{head:5}  " + " ".join(f"{cell:>{digits}}" for cell in cells)


def _mark(ident: int, other: int, links: frozenset[int]) -> str:
    if ident == other:
        return "\\"
    return "x" if other in links else "."


def _behind(ident: int, part: Iterable[int], overview: Overview) -> str:
    """A description of the writes that a server lacks.

    Those writes are counted that a running server knows of, including writes that are no longer standing. What a silent
    server knows of is unknown.
    """
    found = overview.lacking(ident, part)
    if found is None:
        return "unknown: silent"
    silent = overview.links.keys() - overview.contexts.keys()
    lacks = _lacks(*found)
    if not silent:
        return lacks or "up to date"
    silence = f"{_few(silent)} {'is' if len(silent) == 1 else 'are'} silent"
    if lacks:
        return f"{lacks}, perhaps more; {silence}"
    others = overview.contexts.keys() - {ident}
    return f"up to date with {_few(others)}; {silence}" if others else f"unknown: {silence}"


def _belief(ident: int, part: Iterable[int], overview: Overview) -> str:
    """Which servers a server believes that it can reach, itself included."""
    believed = overview.reachable.get(ident)
    if believed is None:
        return "unknown"
    return _few(believed) + " (outdated)" * (believed != set(part))


def _lacks(here: int, elsewhere: int) -> str:
    """How many writes of its own partition and of others a server lacks; empty if it lacks none."""
    if here and elsewhere:
        return f"lacks {_writes(here)} of its partition, {elsewhere} of others"
    if here:
        return f"lacks {_writes(here)}"
    return f"lacks {_writes(elsewhere)} of other partitions" if elsewhere else ""


def _writes(count: int) -> str:
    return "1 write" if count == 1 else f"{count} writes"


def _shapes(overview: Overview) -> str:
    """The shapes of links, as one text; empty if none has one."""
    shapes = [f"{one} and {other}: {shape}" for (one, other), shape in overview.shapes.items()]
    if overview.usual_shape:
        others = "all others between servers" if shapes else "all links between servers"
        shapes.append(f"{others}: {overview.usual_shape}")
    return "; ".join(shapes)


# -- clients -----------------------------------------------------------------------------------------------


def _clients(overview: Overview, before: Overview | None) -> Iterator[tuple[str, ...]]:
    yield "client", "state", "process", "connections, in order"
    rows: list[_Row] = []
    for ident, client in sorted(overview.clients.items()):
        changed = before is not None and before.clients.get(ident) != client
        if client.pid is None:
            rows.append(_Row(ident, "", "died", ("",), changed))
        else:
            rows.append(
                _Row(ident, _process(overview, ident, client.pid), "up", (_connections(client, overview),), changed)
            )
    yield from _folded(rows, folds=len(rows) > CLIENTS)


def _connections(client: ClientOverview, overview: Overview) -> str:
    shown = [
        str(server) if overview.servers[server] is not None else f"{server} (killed)" for server in client.connections
    ]
    return ", ".join(shown) or "none"


# -- text --------------------------------------------------------------------------------------------------


def wrapped(begin: str, text: str, width: int) -> list[str]:
    """Lines with *begin* and then *text*, broken between words. Further lines are indented by the length of *begin*."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [begin.rstrip()]


def _table(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Rows with aligned columns: numbers are aligned to the right, and text to the left.

    Columns for which there is no room are placed below their row, each with its heading.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    beside = len(widths)
    while beside > 3 and sum(widths[:beside]) + 2 * (beside - 1) > width:
        needed = sum(widths[: beside - 1]) + 2 * (beside - 1)  # the last column may be wrapped
        if beside == len(widths) and needed + TEXT_COLUMNS <= width:
            break
        beside -= 1
    lines = []
    for row in rows:
        cells = [
            f"{cell:>{columns}}" if place in (0, 2) else f"{cell:{columns}}"
            for place, (cell, columns) in enumerate(zip(row, widths, strict=True))
        ]
        if beside == len(cells):
            lines += wrapped("".join(cell + "  " for cell in cells[:-1]), row[-1], width)
            continue
        lines.append("  ".join(cells[:beside]).rstrip())
        for head, cell in zip(rows[0][beside:], row[beside:], strict=True):
            if cell and row is not rows[0]:
                lines += wrapped(" " * (widths[0] + 2), f"{head}: {cell}", width)
    return lines


def _few(idents: Collection[int]) -> str:
    """These ids, if they can be written in a few characters; otherwise their number."""
    ranges = _ranges(idents)
    return ranges if len(ranges) <= FEW_CHARACTERS or len(idents) == 1 else f"{len(idents)} servers"


def _ranges(idents: Iterable[int]) -> str:
    """Ids in a short form, such as `0-3, 7`."""
    spans: list[list[int]] = []
    for ident in sorted(idents):
        if spans and ident == spans[-1][1] + 1:
            spans[-1][1] = ident
        else:
            spans.append([ident, ident])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)
