// The space-time diagram (Lamport, 1978): a line for each process, with time downwards, and an arrow for each message.
//
// Only what is in sight is drawn, and what falls on the same pixels is drawn once. So the work depends on the size of
// the window, and not on that of the run. Where everything is stands in layout.js.

import { drawArrows, drawFollowed, drawLosses } from "./arrows.js";
import { drawBars } from "./bars.js";
import { duration } from "./dom.js";
import { HEAD, Layout, ROW, scrolled } from "./layout.js";
import { drawSummary, isCrowded } from "./summary.js";
import { COMMAND, fitted, HEADING, PLAIN, pixels, sayEvent } from "./texts.js";

export const COLOURS = d3.schemeTableau10;
export const BESIDE = 12; // pixels from a mark to its label
const LINE = 13; // labels that are closer than this would touch
const LABEL = 190; // pixels that a label may take to the right of its mark, also beyond its column if nothing is there
const BAND = 44; // pixels: half of the widest band of a partition
const EDGE = 5; // pixels: the edge of a band
const NEARER = 4; // times, until events can be told apart
const NEXT = 44; // pixels between two times at the left edge

const SHAPES = {
  command: [d3.symbolSquare, 42],
  error: [d3.symbolSquare, 78],
  warning: [d3.symbolSquare, 78],
  learnt: [d3.symbolDiamond, 88],
  started: [d3.symbolTriangle, 70],
  killed: [d3.symbolTimes, 110],
  other: [d3.symbolCircle, 18],
};

/** Returns the outline of a mark. */
export function shapeOf(look) {
  const [shape, size] = SHAPES[look] ?? [d3.symbolCircle, 78];
  return d3.symbol(shape, size)();
}

export class Diagram {
  constructor(run, scroller, heads, canvas) {
    this.run = run;
    this.scroller = scroller;
    this.heads = d3.select(heads);
    this.canvas = d3.select(canvas);
    this.svg = this.canvas.append("svg").attr("class", "diagram").attr("aria-hidden", "true");
    this.layout = new Layout(run);
    this.selected = null; // an event
    this.followed = new Set(); // writes
    this.limit = Infinity; // the last event that may be seen
    this.hiddenFrom = Infinity; // the operation from which on answers may not be seen
    this.onselect = () => {};
    this.onhover = () => {};
    this.onsight = () => {};
    this.onlayout = () => {};
    scroller.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    new ResizeObserver(() => {
      if (this.measured !== this.size()) this.layOut();
    }).observe(scroller);
  }

  /** Give everything its place again. To be called when the filters, the axis, the zoom or the window have changed. */
  layOut() {
    const { layout } = this;
    this.measured = this.size();
    layout.measure(this.scroller.clientWidth, this.scroller.clientHeight);
    this.canvas.style("height", `${layout.height}px`).style("width", `${layout.width}px`);
    this.drawHeads(this.heads.selectAll("svg").data([0]).join("svg"));
    this.onlayout();
    this.draw();
  }

  size() {
    return `${this.scroller.clientWidth} ${this.scroller.clientHeight}`;
  }

  /** Whether an event may be seen. */
  isSeen({ number, operation, kind }) {
    return number <= this.limit && (kind === "command" || (operation ?? -1) < this.hiddenFrom);
  }

  /** Returns the height of what can be seen of the diagram. */
  get room() {
    return this.scroller.clientHeight - HEAD;
  }

  // -- looking around -------------------------------------------------------------------------------------

  /** Zoom about a height of the window, below the heads. */
  zoomBy(factor, at = this.middle()) {
    const { layout } = this;
    const [before, y] = [layout.zoom, this.scroller.scrollTop + at];
    layout.fitting = false;
    layout.zoom *= factor;
    this.layOut();
    this.scroller.scrollTop = ROW + (y - ROW) * (layout.zoom / before) - at;
    this.draw();
  }

  /** Zoom so far that the events around one can be told apart. */
  zoomInto(number) {
    const { layout } = this;
    layout.fitting = false;
    if (layout.axis === "order") layout.zoom = 1;
    for (let zoom = 0; zoom !== layout.zoom; ) {
      zoom = layout.zoom;
      this.layOut();
      this.goTo(number);
      if (this.crowded) layout.zoom *= NEARER;
    }
  }

  /** Returns the height to zoom about: of the chosen event, if it is in sight, or of the one nearest to the middle. */
  middle() {
    const { layout, room } = this;
    const top = this.scroller.scrollTop;
    const chosen = layout.y[this.selected] - top;
    if (chosen >= 0 && chosen <= room) return chosen;
    const nearest = d3.least(layout.marks, (number) => Math.abs(layout.y[number] - top - room / 2));
    return nearest === undefined ? room / 2 : layout.y[nearest] - top;
  }

  /** Show all of it at once. */
  fit() {
    this.layout.fitting = true;
    this.layOut();
    this.scroller.scrollTop = 0;
  }

  /** Show the events in their order, or at their times. */
  showAxis(axis) {
    Object.assign(this.layout, { axis, zoom: 1, fitting: false });
    this.layOut();
    if (this.selected !== null) this.goTo(this.selected);
  }

  showView(view) {
    this.layout.view = view;
    this.layOut();
    if (this.selected !== null) this.goTo(this.selected);
  }

  /** Scroll so that the event is in sight, and, if it belongs to an operation, the servers that were asked as well. */
  goTo(number) {
    const { run, layout, scroller } = this;
    const { process, operation } = run.events[number];
    const asked = (run.operations[operation]?.asked ?? []).filter(({ server }) => layout.x.has(server));
    const ys = asked.map(({ event }) => layout.y[event]);
    scroller.scrollTop = scrolled(scroller.scrollTop, this.room, layout.y[number], ys, 40, 60);
    const x = layout.x.get(process);
    const xs = asked.map(({ server }) => layout.x.get(server));
    if (x !== undefined) scroller.scrollLeft = scrolled(scroller.scrollLeft, scroller.clientWidth, x, xs, 20, 120);
    this.draw();
  }

  /** Returns the last event that is drawn down to the end of what is in sight; if there is none, the first event. */
  lastInSight() {
    const { marks, y } = this.layout;
    return marks[Math.max(0, d3.bisector((number) => y[number]).right(marks, this.scroller.scrollTop + this.room) - 1)];
  }

  // -- drawing --------------------------------------------------------------------------------------------

  drawSoon() {
    this.due ??= requestAnimationFrame(() => {
      this.due = undefined;
      this.draw();
    });
  }

  draw() {
    if (!this.layout.y) return;
    const { width, height } = this.layout;
    const top = Math.max(0, this.scroller.scrollTop - 100);
    const bottom = Math.min(height, this.scroller.scrollTop + this.scroller.clientHeight + 100);
    this.svg
      .attr("width", width)
      .attr("height", Math.max(0, bottom - top))
      .style("top", `${top}px`)
      .attr("viewBox", `0 ${top} ${width} ${Math.max(1, bottom - top)}`);
    this.drawInto(this.svg, top, bottom);
    this.onsight();
  }

  drawHeads(svg) {
    const { layout, run } = this;
    svg.attr("class", "diagram").attr("width", layout.width).attr("height", HEAD);
    const room = layout.gap - 6;
    const lines = [...layout.x].flatMap(([lane, x]) => {
      const name = run.processes[lane];
      if (pixels(name, HEADING) <= room) return [{ name, x, y: 28, text: name }];
      // If even a word has no room, its first letter stands for it; the tip says the whole name.
      const said = (word) => (/\d/.test(word) || pixels(word, HEADING) <= room ? fitted(word, room, HEADING) : word[0]);
      return name.split(" ").map((word, index) => ({ name, x, y: 20 + 15 * index, text: said(word) }));
    });
    svg
      .selectAll("text")
      .data(lines)
      .join("text")
      .attr("class", "head")
      .attr("x", ({ x }) => x)
      .attr("y", ({ y }) => y)
      .text(({ text }) => text)
      .call((drawn) => this.listen(drawn, ({ name }) => [name]));
  }

  /** Have what is drawn say something in the tip (*say* returns its lines) and, after a click, *act*. */
  listen(drawn, say, act) {
    drawn
      .on("pointermove", (pointer, one) => this.onhover(pointer, say(one)))
      .on("pointerleave", () => this.onhover(null));
    if (act) drawn.on("click", (_, one) => act(one));
  }

  /** Draw what lies between two heights. *whole*: each event by itself, however many there are. */
  drawInto(svg, top, bottom, whole = false) {
    const { layout } = this;
    const { y, view } = layout;
    const from = Math.max(0, d3.bisectLeft(y, top) - 1);
    const to = d3.bisectRight(y, bottom);
    const layer = (name) => svg.selectAll(`g.${name}`).data([name]).join("g").attr("class", name);
    this.crowded = !whole && isCrowded(layout.marksBetween(from, to).length, bottom - top);
    const styles = this.crowded
      ? ["sums"]
      : view === "bars"
        ? ["bars", "marks"]
        : ["arrows", "losses", "paths", "marks"];
    svg
      .selectAll("g")
      .filter((name) => !["partitions", "lanes", "times", ...styles].includes(name))
      .remove();
    svg.classed("following", this.followed.size > 0 && !this.crowded && view === "diagram");
    this.drawPartitions(layer("partitions"), top, bottom);
    this.drawLanes(layer("lanes"), top, bottom);
    this.drawTimes(layer("times"), from, to, whole ? [top, bottom] : [0, Infinity]);
    if (this.crowded) {
      drawSummary(this, layer("sums"), top, bottom, from, to);
    } else if (view === "bars") {
      drawBars(this, layer("bars"), top, bottom);
      this.drawMarks(layer("marks"), from, to, { isWanted: ({ operation }) => operation === null });
    } else {
      const dense = drawArrows(this, layer("arrows"), top, bottom);
      drawLosses(this, layer("losses"), top, bottom);
      drawFollowed(this, layer("paths"));
      this.drawMarks(layer("marks"), from, to, { dense });
    }
    this.drawRing(svg);
  }

  /** Draw a band behind each server while there are several partitions. */
  drawPartitions(layer, top, bottom) {
    const { run, layout } = this;
    const bands = [];
    const half = Math.min(layout.gap / 2 - 3, BAND);
    run.partitions.forEach(([event, components], index) => {
      const next = run.partitions[index + 1];
      const [begin, end] = [layout.y[event], next && next[0] <= this.limit ? layout.y[next[0]] : layout.height];
      if (components.length < 2 || end < top || begin > bottom || event > this.limit) return;
      components.forEach((component, number) => {
        const names = component.map((one) => run.processes[one]).join(", ");
        const together = `partition ${number + 1} of ${components.length}: ${names}`;
        const colour = COLOURS[run.colours[index][number] % COLOURS.length];
        for (const server of component.filter((one) => layout.x.has(one))) {
          bands.push({ x: layout.x.get(server) - half, begin, end, together, colour });
        }
      });
    });
    const draw = (name, width) =>
      layer
        .selectAll(`rect.${name}`)
        .data(bands)
        .join("rect")
        .attr("class", name)
        .attr("x", ({ x }) => x)
        .attr("width", width)
        .attr("y", ({ begin }) => begin)
        .attr("height", ({ begin, end }) => Math.max(1, end - begin))
        .attr("fill", ({ colour }) => colour)
        .call((drawn) => this.listen(drawn, ({ together }) => [together]));
    draw("partition", 2 * half);
    draw("edge", EDGE);
  }

  drawLanes(layer, top, bottom) {
    const { run, layout } = this;
    const pieces = [];
    for (const [lane, x] of layout.x) {
      const lives = run.lives.filter(({ process }) => process === lane);
      if (!lives.length) pieces.push({ x, begin: 0, end: layout.height, dead: false });
      let end = null;
      for (const life of lives) {
        if (end !== null) pieces.push({ x, begin: end, end: layout.y[life.began], dead: true });
        end = life.ended === null ? layout.height : layout.y[life.ended];
        pieces.push({ x, begin: layout.y[life.began], end, dead: false });
      }
    }
    layer
      .selectAll("line")
      .data(pieces.filter(({ begin, end }) => begin <= bottom && end >= top))
      .join("line")
      .attr("class", ({ dead }) => (dead ? "lane dead" : "lane"))
      .attr("x1", ({ x }) => x)
      .attr("x2", ({ x }) => x)
      .attr("y1", ({ begin }) => Math.max(begin, top))
      .attr("y2", ({ end }) => Math.min(end, bottom));
    const isSeen = ({ process, ended }) =>
      ended !== null &&
      ended <= this.limit &&
      layout.x.has(process) &&
      layout.y[ended] >= top &&
      layout.y[ended] <= bottom;
    layer
      .selectAll("path")
      .data(run.lives.filter(isSeen))
      .join("path")
      .attr("class", "mark killed")
      .attr("d", d3.symbol(d3.symbolTimes, this.crowded ? 30 : 110)())
      .attr("transform", ({ process, ended }) => `translate(${layout.x.get(process)},${layout.y[ended]})`)
      .on("click", (_, { ended }) => this.onselect(ended));
  }

  /** Draw times at the left edge, and a line across for the end of each stabilize. */
  drawTimes(layer, from, to, [top, bottom]) {
    const { run, layout } = this;
    const times = [];
    let last = -Infinity;
    for (let number = from; number < to; number++) {
      const y = layout.y[number];
      if (y - last < NEXT || y < top + LINE || y > bottom - LINE || number > this.limit) continue;
      last = y;
      times.push(number);
    }
    layer
      .selectAll("text")
      .data(times)
      .join("text")
      .attr("class", "axis")
      .attr("x", 8)
      .attr("y", (number) => layout.y[number] + 4)
      .text((number) => duration(run.events[number].time));
    const isStable = (number) => run.events[number].kind === "stable" && this.isSeen(run.events[number]);
    const stable = this.crowded ? [] : d3.range(from, to).filter(isStable);
    const [left, right] = d3.extent([...layout.x.values()]);
    layer
      .selectAll("line")
      .data(stable)
      .join("line")
      .attr("class", "stable")
      .attr("x1", left + 60)
      .attr("x2", right)
      .attr("y1", (number) => layout.y[number])
      .attr("y2", (number) => layout.y[number]);
  }

  isOn(number) {
    const { run, followed, selected } = this;
    const { operation, writes } = run.events[number];
    if (number === selected || (operation !== null && operation === run.events[selected]?.operation)) return true;
    return followed.has(run.operations[operation]?.write) || writes.some((one) => followed.has(one));
  }

  /** Draw the events between two, or some of them, as marks with labels. *dense*: only what matters gets a label. */
  drawMarks(layer, from, to, { dense = false, isWanted = () => true }) {
    const { run, layout } = this;
    const last = new Map(); // lane -> the height of its last mark
    const marks = [];
    for (const number of layout.marksBetween(from, to)) {
      const event = run.events[number];
      if (!this.isSeen(event) || !layout.x.has(event.process) || !isWanted(event)) continue;
      const look = run.lookOf(event);
      const y = layout.y[number];
      const chosen = number === this.selected;
      const matters = chosen || ["dependency", "error", "warning", "killed"].includes(look);
      if (y - last.get(event.process) < 3 && !matters) continue;
      const telling = !dense || matters || (event.kind === "command" && event.operation === null);
      last.set(event.process, y);
      const rank = chosen ? 2 : matters ? 1 : 0;
      marks.push({ number, event, look, x: layout.x.get(event.process), y, on: this.isOn(number), rank, telling });
    }
    this.label(marks);
    const listening = (drawn) =>
      this.listen(
        drawn,
        ({ number }) => sayEvent(run, number),
        ({ number }) => this.onselect(number),
      );
    layer
      .selectAll("path")
      .data(marks, ({ number }) => number)
      .join("path")
      .attr("class", ({ look, on }) => `mark ${look}${on ? " on" : ""}`)
      .attr("d", ({ look }) => shapeOf(look))
      .attr("transform", ({ x, y }) => `translate(${x},${y})`)
      .attr("data-event", ({ number }) => number)
      .call(listening);
    layer
      .selectAll("text")
      .data(
        marks.filter(({ label }) => label),
        ({ number }) => number,
      )
      .join("text")
      .attr("class", ({ look, on }) => `label ${look}${on ? " on" : ""}`)
      .attr("x", ({ x }) => x + BESIDE)
      .attr("y", ({ y }) => y + 4)
      .text(({ label }) => label)
      .call(listening);
  }

  drawRing(svg) {
    const { run, layout, selected } = this;
    const isBar = layout.view === "bars" && run.events[selected]?.operation !== null;
    const ring = selected === null || isBar || !layout.x.has(run.events[selected].process) ? [] : [selected];
    svg
      .selectAll("circle.ring")
      .data(ring)
      .join("circle")
      .attr("class", "ring")
      .attr("r", 9.5)
      .attr("cx", (number) => layout.place(number)[0])
      .attr("cy", (number) => layout.place(number)[1])
      .raise();
  }

  /** Give the marks their labels, so that no label covers another or a mark: what matters comes first. */
  label(marks) {
    const taken = d3.rollup(
      marks,
      () => [],
      ({ x }) => x,
    ); // lane -> the heights of its labels
    const ranked = marks.map((mark, index) => ({ index, mark })).sort((one, other) => other.mark.rank - one.mark.rank);
    for (const { index, mark } of ranked) {
      const { event, x, y, look, telling } = mark;
      if (!telling || taken.get(x).some((height) => Math.abs(height - y) < LINE)) continue;
      const room =
        Math.min(Math.max(LABEL, this.layout.column(event.process)), this.end(marks, index) - x) - BESIDE - 8;
      mark.font = look === "command" ? COMMAND : PLAIN;
      mark.label = fitted(event.text, room, mark.font);
      if (mark.label) taken.get(x).push(y);
    }
  }

  /** Returns the x of what is next to the right of a mark: another mark, or the edge. */
  end(marks, index) {
    const { x, y } = marks[index];
    let end = this.layout.width;
    const look = (step) => {
      for (let at = index + step; at in marks && Math.abs(marks[at].y - y) < LINE; at += step) {
        if (marks[at].x > x) end = Math.min(end, marks[at].x);
      }
    };
    look(-1);
    look(1);
    return end;
  }
}
