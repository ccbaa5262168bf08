"""The space-time diagram of a story as a picture: SVG, which needs no script, and so is shown wherever pictures are.

May live here: what is drawn, where, and how it looks. May not: what has happened (checking/telling.py). A report's
diagram (checking/page/diagram.js) shows the same in the same colours, to be looked around in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from checking.story import MASTER, Loss, Message, Story, StoryEvent

__all__ = ["draw"]

ROW = 24
"""Pixels between two events that have a mark."""
ARROW_END = 0.45
"""How many rows an event takes that is only the end of an arrow."""
HEAD = 46
LEFT = 16
COLUMN = 170
MASTER_COLUMN = 250
LETTER = 6.6
"""About how wide a letter is."""

PAPER, INK, FAINT, BLUE, GREEN, RED, BROWN = "#fff", "#1d2430", "#5c6573", "#2563c9", "#15803d", "#c81e3a", "#a84d06"
PARTITIONS = ("#4e79a7", "#f28e2b", "#76b7b2", "#edc948", "#b07aa1", "#9c755f", "#59a14f", "#bab0ac")

MARKS = {
    # fill, stroke
    "command": (INK, INK),
    "error": (RED, RED),
    "warning": (BROWN, BROWN),
    "put": (BLUE, BLUE),
    "get": (PAPER, BLUE),
    "ERR_DEP": (RED, RED),
    "ERR_KEY": (PAPER, BROWN),
    "learnt": (GREEN, GREEN),
    "started": (GREEN, GREEN),
    "other": (FAINT, FAINT),
}

SHOWN = (
    *("command", "error", "warning", "operated", "executed", "undone", "learnt"),
    *("started", "killed", "linked", "unlinked"),
)
"""The kinds of events that have a mark."""

ERRORS = ("refused", "uncertain", "unusable", "undone", "lost")


def draw(story: Story) -> str:
    """The picture, as the text of an SVG element."""
    return _Drawing(story).svg()


class _Drawing:
    """Where everything is."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._x: list[float] = []
        x = float(LEFT)
        for name in story.processes:
            self._x.append(x + 24)
            x += MASTER_COLUMN if name == MASTER else COLUMN
        self._width = x
        self._arrows = [message for message in story.messages if self._is_shown(message)]
        self._losses = [loss for loss in story.losses if loss.name in ("execute", "pull")]
        ends = {end for message in self._arrows for end in (message.sent, message.received)}
        ends |= {loss.event for loss in self._losses}
        self._y: list[float] = []
        rows = before = 0.0
        for number, moment in enumerate(story.events):
            weight = 1.0 if _has_mark(moment) or moment.kind == "stable" else ARROW_END if number in ends else 0.0
            rows += (weight + before) / 2
            before = weight
            self._y.append(HEAD + ROW / 2 + rows * ROW)
        self._height = (self._y[-1] if self._y else HEAD) + ROW

    @staticmethod
    def _is_shown(message: Message) -> bool:
        """Puts, gets, and what has brought a server something."""
        return message.name in ("execute", "execute_group") or bool(message.writes)

    def svg(self) -> str:
        """All of it."""
        size = f'width="{self._width:.0f}" height="{self._height:.0f}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {self._width:.0f} {self._height:.0f}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *self._partitions(),
            *self._lanes(),
            *self._stable(),
            *(self._arrow(message) for message in self._arrows),
            *(self._loss(loss) for loss in self._losses),
            *(self._mark(number) for number, moment in enumerate(self._story.events) if _has_mark(moment)),
            *self._labels(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    # -- behind ----------------------------------------------------------------------------------------------

    def _partitions(self) -> Iterator[str]:
        """A shade behind each server while there are several partitions."""
        ends = [*(self._y[event] for event, _ in self._story.partitions[1:]), self._height]
        for (event, parts), end in zip(self._story.partitions, ends, strict=False):
            for number, part in enumerate(parts if len(parts) > 1 else ()):
                names = ", ".join(self._story.processes[server] for server in part)
                for server in part:
                    yield (
                        f'<rect x="{self._x[server] - 20:.1f}" y="{self._y[event]:.1f}" width="40" '
                        f'height="{max(1.0, end - self._y[event]):.1f}" fill="{PARTITIONS[number % len(PARTITIONS)]}" '
                        f'opacity=".16"><title>{escape(f"partition {number + 1}: {names}")}</title></rect>'
                    )

    def _lanes(self) -> Iterator[str]:
        """A line for each process; of a server while it runs, and dotted in between."""
        for process, name in enumerate(self._story.processes):
            x = self._x[process]
            yield f'<text x="{x:.1f}" y="26" text-anchor="middle" font-weight="650">{escape(name)}</text>'
            lives = [life for life in self._story.lives if life.process == process]
            if not lives:
                yield _line(x, HEAD, x, self._height, FAINT, 'opacity=".55"')
            end = None
            for life in lives:
                began = self._y[life.began]
                if end is not None:
                    yield _line(x, end, x, began, FAINT, 'stroke-dasharray="1 6" opacity=".5"')
                end = self._height if life.ended is None else self._y[life.ended]
                yield _line(x, began, x, end, FAINT, 'opacity=".55"')
                if life.ended is not None:
                    cross = f"M{x - 6:.1f} {end - 6:.1f}l12 12m0 -12l-12 12"
                    yield f'<path d="{cross}" stroke="{RED}" stroke-width="2.5"/>'

    def _stable(self) -> Iterator[str]:
        for number, moment in enumerate(self._story.events):
            if moment.kind == "stable":
                y = self._y[number]
                yield _line(self._x[0] + 12, y, self._x[-1], y, GREEN, 'stroke-dasharray="5 4" opacity=".8"')

    # -- arrows and marks ------------------------------------------------------------------------------------

    def _arrow(self, message: Message) -> str:
        (x1, y1), (x2, y2) = self._place(message.sent), self._place(message.received)
        colour = GREEN if message.writes else BLUE
        length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        tip = f"M{x2:.1f} {y2:.1f}l{-8 * ux - 3.5 * uy:.1f} {-8 * uy + 3.5 * ux:.1f}l{7 * uy:.1f} {-7 * ux:.1f}z"
        dashes = ' stroke-dasharray="4 3"' if message.answer and not message.writes else ""
        width = 2 if message.writes else 1
        return (
            _line(x1, y1, x2, y2, colour, f'stroke-width="{width}" opacity=".8"{dashes}')
            + f'<path d="{tip}" fill="{colour}"/>'
        )

    def _loss(self, loss: Loss) -> str:
        """An arrow that ends on the way, in a cross."""
        x1, y1 = self._x[loss.sender], self._y[loss.event]
        x2, y2 = 0.4 * x1 + 0.6 * self._x[loss.receiver], y1 + 9
        dashes = ' stroke-dasharray="4 3"' if loss.answer else ""
        return (
            _line(x1, y1, x2, y2, RED, f'opacity=".8"{dashes}')
            + f'<path d="M{x2 - 5:.1f} {y2 - 5:.1f}l10 10m0 -10l-10 10" stroke="{RED}" stroke-width="2">'
            + f"<title>{escape(self._story.events[loss.event].text)}</title></path>"
        )

    def _place(self, number: int) -> tuple[float, float]:
        return self._x[self._story.events[number].process], self._y[number]

    def _mark(self, number: int) -> str:
        moment = self._story.events[number]
        if moment.kind == "killed":
            return ""  # the cross on the server's line
        x, y = self._place(number)
        fill, stroke = MARKS[self._look(number, moment)]
        said = [moment.text, moment.where, *self._why(moment)]
        title = escape("\n".join(line for line in said if line))
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{stroke}" stroke-width="1.6">'
            f"<title>{title}</title></circle>"
        )

    def _look(self, number: int, moment: StoryEvent) -> str:
        if moment.kind in ("operated", "executed") and moment.operation is not None:
            done = self._story.operations[moment.operation]
            answer = done.outcome
            if moment.kind == "executed":
                answer = next((asked.answer for asked in done.asked if asked.event == number), "")
            if answer in ("ERR_DEP", "ERR_KEY"):
                return answer
            return "error" if answer in ERRORS else "put" if done.put else "get"
        return moment.kind if moment.kind in MARKS else "other"

    def _why(self, moment: StoryEvent) -> list[str]:
        if moment.kind != "operated" or moment.operation is None:
            return []
        return self._story.operations[moment.operation].why

    # -- labels ----------------------------------------------------------------------------------------------

    def _labels(self) -> Iterator[str]:
        """What happened, beside the marks; no two labels of a process lie over each other."""
        last: dict[int, float] = {}
        for number, moment in enumerate(self._story.events):
            if not _has_mark(moment) or not moment.text:
                continue
            x, y = self._place(number)
            if y - last.get(moment.process, 0.0) < ROW / 2:
                continue
            last[moment.process] = y
            is_master = self._story.processes[moment.process] == MASTER
            text = _fitted(moment.text, ((MASTER_COLUMN if is_master else COLUMN) - 44) / LETTER)
            look = self._look(number, moment)
            colour = (
                RED if look in ("ERR_DEP", "error") or moment.kind == "killed" else FAINT if look == "other" else INK
            )
            yield (
                f'<text x="{x + 11:.1f}" y="{y + 4:.1f}" fill="{colour}" stroke="{PAPER}" stroke-width="3" '
                f'paint-order="stroke">{escape(text)}</text>'
            )


def _has_mark(moment: StoryEvent) -> bool:
    return moment.kind in SHOWN


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _fitted(text: str, most: float) -> str:
    """What has room, on one line; what came of an operation, at the end, is never cut."""
    text = " ".join(_printable(text).split())
    if len(text) <= most:
        return text
    begin, arrow, end = text.rpartition(" → ")
    room = max(4, int(most) - len(arrow + end) - 1)
    return f"{begin[:room]}…{arrow}{end}" if arrow and len(end) < most / 2 else f"{text[: int(most) - 1]}…"


def _printable(text: Iterable[str]) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
