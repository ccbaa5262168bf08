"use strict";
// The space-time diagram (Lamport, 1978): a line for each process, with time downwards, and an arrow for each message.
//
// Only what is in sight is drawn, and what falls on the same pixels is drawn once. So the work depends on the size of
// the window, and not on that of the run.

const ROW = 24; // pixels between two events, in order
const HEAD = 46;
const LEFT = 78; // where the lane of the master is
const NARROW = 90; // columns are not narrower than this, or labels would say little; one scrolls to the others
const WIDE = 260;
const MASTER = 1.5; // columns: the labels of the master are whole commands
const LAST = 1.4; // columns: the labels of the last lane have no room beyond it
const NEAR = 4; // rows between two events at the largest zoom; in real time, between half of them
const TALLEST = 8e6; // pixels, which is what browsers can bear
const DENSE = 1000; // arrows in sight: with more, only those that brought something are drawn, and few labels
const COLOURS = d3.schemeTableau10;
const BESIDE = 12; // pixels from a mark to its label
const LINE = 13; // labels that are closer than this would touch
const LABEL = 190; // pixels that a label may take to the right of its mark, also beyond its column if nothing is there

class Diagram {
  constructor(scroller, heads, canvas) {
    this.scroller = scroller;
    this.heads = d3.select(heads);
    this.canvas = d3.select(canvas);
    this.svg = this.canvas.append("svg").attr("class", "diagram");
    this.axis = "order";
    this.zoom = 1;
    this.fitting = false; // whether all columns have to be in sight, however narrow they become
    this.shown = Object.fromEntries(Object.entries(KINDS).map(([kind, [, first]]) => [kind, first]));
    this.key = "";
    this.hidden = new Set();
    this.selected = null; // an event
    this.followed = new Set(); // writes
    this.onselect = () => {};
    this.onhover = () => {};
    this.onsight = () => {};
    scroller.addEventListener("scroll", () => this.drawSoon(), {passive: true});
    new ResizeObserver(() => this.layOut()).observe(scroller);
  }

  // -- what is shown, and where ---------------------------------------------------------------------------

  /** Whether the event gets a mark, with the filters as they are. */
  isShown(event) {
    if (this.hidden.has(event.process)) return false;
    if (this.key && !["killed", "started", "linked", "unlinked", "stable", "error", "warning"].includes(event.kind)) {
      const keys = run.keysOf(event);
      if (keys.length ? !keys.includes(this.key) : /^(put|get) /.test(event.text)) return false;
    }
    switch (event.kind) {
      case "command": return true;
      case "operated": case "executed": case "undone": return this.shown.operations;
      case "learnt": return this.shown.exchanges;
      case "linked": case "unlinked": return this.shown.links;
      case "started": case "killed": case "stable": case "error": case "warning": return true;
      default: return false;
    }
  }

  isMessageShown(message) {
    if (!this.shown[kindOfMessage(message)]) return false;
    if (this.hidden.has(run.events[message.sent].process) || this.hidden.has(run.events[message.received].process)) return false;
    return !this.key || !["operations", "exchanges"].includes(kindOfMessage(message)) || run.keysOf(message).includes(this.key);
  }

  /** Give every event its place. To be called when the filters, the axis, the zoom or the window have changed. */
  layOut() {
    const lanes = d3.range(run.processes.length).filter((process) => !this.hidden.has(process));
    const width = this.scroller.clientWidth;
    const columns = (lane) => (run.kindOf[lane] === "master" ? MASTER : lane === lanes.at(-1) ? LAST : 1);
    const even = (width - LEFT) / Math.max(1, d3.sum(lanes, columns));
    this.gap = Math.min(WIDE, this.fitting ? even : Math.max(NARROW, even));
    this.x = new Map();
    let x = LEFT;
    for (const lane of lanes) {
      this.x.set(lane, x);
      x += columns(lane) * this.gap;
    }
    this.width = Math.max(width, x);
    this.marks = [];
    this.arrows = run.messages.filter((message) => this.isMessageShown(message));
    const weights = new Float64Array(run.events.length);
    for (const {sent, received} of this.arrows) {
      weights[sent] = 0.45;
      weights[received] = 0.45;
    }
    this.losses = run.losses.filter((loss) => this.shown[kindOfLoss(loss)] && ![loss.sender, loss.receiver].some((end) => this.hidden.has(end)));
    for (const {event} of this.losses) weights[event] = 0.45;
    run.events.forEach((event, number) => {
      if (this.isShown(event)) {
        this.marks.push(number);
        weights[number] = 1;
      }
    });
    this.y = new Float64Array(run.events.length);
    // In order, an event stands in the middle of its room; one without mark or arrow takes none.
    let [rows, before] = [0, 0];
    const places = run.events.map(({time}, number) => {
      rows += (weights[number] + before) / 2;
      before = weights[number];
      return this.axis === "time" ? time : rows;
    });
    const scale = this.scale(places);
    places.forEach((place, number) => { this.y[number] = ROW + place * scale; });
    this.height = (this.y.length ? this.y[this.y.length - 1] : 0) + 2 * ROW;
    this.canvas.style("height", `${this.height}px`).style("width", `${this.width}px`);
    this.drawHeads(this.heads.selectAll("svg").data([0]).join("svg"));
    this.draw();
  }

  /** Returns the pixels for each row or microsecond. The zoom is kept within its limits: from all at once to few. */
  scale(places) {
    const time = this.axis === "time";
    const room = Math.max(1, this.scroller.clientHeight - HEAD - 2 - 3 * ROW);
    const all = room / Math.max(1, places.at(-1) ?? 1);
    const unit = time ? all : ROW; // at a zoom of 1
    const gaps = d3.pairs(this.marks, (one, next) => places[next] - places[one]).filter((gap) => gap > 0);
    const near = time ? Math.min((NEAR * ROW) / (d3.median(gaps) ?? 0), TALLEST / Math.max(1, run.length)) : NEAR * ROW;
    const fit = Math.min(all, near);
    this.zoom = (this.fitting ? fit : Math.max(Math.min(fit, unit), Math.min(Math.max(near, unit), this.zoom * unit))) / unit;
    return this.zoom * unit;
  }

  /** Zoom about a height of the window, below the heads. */
  zoomBy(factor, at = this.middle()) {
    const [before, y] = [this.zoom, this.scroller.scrollTop + at];
    this.fitting = false;
    this.zoom *= factor;
    this.layOut();
    this.scroller.scrollTop = ROW + (y - ROW) * (this.zoom / before) - at;
    this.draw();
  }

  /** Returns the height to zoom about: of the chosen event, if it is in sight, or of the one nearest to the middle. */
  middle() {
    const [top, height] = [this.scroller.scrollTop, this.scroller.clientHeight - HEAD];
    const chosen = this.y[this.selected] - top;
    if (chosen >= 0 && chosen <= height) return chosen;
    const nearest = d3.least(this.marks, (number) => Math.abs(this.y[number] - top - height / 2));
    return nearest === undefined ? height / 2 : this.y[nearest] - top;
  }

  /** Show all of it at once. */
  fit() {
    this.fitting = true;
    this.layOut();
    this.scroller.scrollTop = 0;
  }

  show(axis) {
    this.axis = axis;
    this.zoom = 1;
    this.fitting = false;
    this.layOut();
    if (this.selected !== null) this.goTo(this.selected);
  }

  /** Scroll so that the event is in sight, and, if it belongs to an operation, the servers that were asked as well. */
  goTo(number) {
    const {process, operation} = run.events[number];
    const asked = (run.operations[operation]?.asked ?? []).filter(({server}) => this.x.has(server));
    const [width, height] = [this.scroller.clientWidth, this.scroller.clientHeight - HEAD];
    const [y, ys] = [this.y[number], asked.map(({event}) => this.y[event])];
    this.scroller.scrollTop = scrolled(this.scroller.scrollTop, height, y, ys, 40, 60);
    const x = this.x.get(process);
    const xs = asked.map(({server}) => this.x.get(server));
    if (x !== undefined) this.scroller.scrollLeft = scrolled(this.scroller.scrollLeft, width, x, xs, 20, 120);
    this.draw();
  }

  // -- drawing --------------------------------------------------------------------------------------------

  drawSoon() {
    this.due ??= requestAnimationFrame(() => {
      this.due = undefined;
      this.draw();
    });
  }

  draw() {
    const top = Math.max(0, this.scroller.scrollTop - 100);
    const bottom = Math.min(this.height, this.scroller.scrollTop + this.scroller.clientHeight + 100);
    this.svg.attr("width", this.width).attr("height", Math.max(0, bottom - top)).style("top", `${top}px`)
      .attr("viewBox", `0 ${top} ${this.width} ${Math.max(1, bottom - top)}`);
    this.drawInto(this.svg, top, bottom);
    this.onsight();
  }

  /** Returns the last event that is drawn down to the end of what is in sight; if there is none, the first event. */
  lastInSight() {
    const end = this.scroller.scrollTop + this.scroller.clientHeight - HEAD;
    return this.marks[Math.max(0, d3.bisector((number) => this.y[number]).right(this.marks, end) - 1)];
  }

  /** Returns the event that is nearest to a time, of those that are drawn. */
  nearest(time) {
    return d3.least(this.marks, (number) => Math.abs(run.events[number].time - time));
  }

  /** Returns the position, among the events that are drawn, of the last one up to this. */
  positionOf(number) {
    return Math.max(0, d3.bisectRight(this.marks, number) - 1);
  }

  drawHeads(svg) {
    svg.attr("class", "diagram").attr("width", this.width).attr("height", HEAD);
    const room = this.gap - 6;
    const lines = [...this.x].flatMap(([lane, x]) => {
      const name = run.processes[lane];
      if (pixels(name, HEADING) <= room) return [{name, x, y: 28, text: name}];
      return name.split(" ").map((word, index) => ({name, x, y: 20 + 15 * index, text: fitted(word, room, HEADING)}));
    });
    svg.selectAll("text").data(lines).join("text")
      .attr("class", "head").attr("x", ({x}) => x).attr("y", ({y}) => y).text(({text}) => text)
      .on("pointermove", (pointer, {name}) => this.onhover(pointer, [name]))
      .on("pointerleave", () => this.onhover(null));
  }

  /** Draw what lies between two heights. */
  drawInto(svg, top, bottom) {
    const from = Math.max(0, d3.bisectLeft(this.y, top) - 1);
    const to = d3.bisectRight(this.y, bottom);
    const layer = (name) => svg.selectAll(`g.${name}`).data([name]).join("g").attr("class", name);
    svg.classed("following", this.followed.size > 0);
    this.drawPartitions(layer("partitions"), top, bottom);
    this.drawLanes(layer("lanes"), top, bottom);
    this.drawTimes(layer("times"), from, to);
    this.drawArrows(layer("arrows"), top, bottom);
    this.drawLosses(layer("losses"), top, bottom);
    this.drawFollowed(layer("paths"));
    this.drawMarks(layer("marks"), from, to);
  }

  drawPartitions(layer, top, bottom) {
    const shades = [];
    const half = Math.min(this.gap / 2 - 3, 44);
    run.partitions.forEach(([event, components], index) => {
      const [begin, end] = [this.y[event], index + 1 < run.partitions.length ? this.y[run.partitions[index + 1][0]] : this.height];
      if (components.length < 2 || end < top || begin > bottom) return;
      components.forEach((component, number) => component.filter((server) => this.x.has(server)).forEach((server) => {
        const together = `partition ${number + 1} of ${components.length}: ${component.map((one) => run.processes[one]).join(", ")}`;
        shades.push({x: this.x.get(server) - half, begin, end, together, colour: COLOURS[run.colours[index][number] % COLOURS.length]});
      }));
    });
    layer.selectAll("rect").data(shades).join("rect").attr("class", "partition")
      .attr("x", ({x}) => x).attr("width", 2 * half).attr("y", ({begin}) => begin).attr("height", ({begin, end}) => Math.max(1, end - begin))
      .attr("fill", ({colour}) => colour).on("pointermove", (pointer, {together}) => this.onhover(pointer, [together]))
      .on("pointerleave", () => this.onhover(null));
  }

  drawLanes(layer, top, bottom) {
    const pieces = [];
    for (const [lane, x] of this.x) {
      const lives = run.lives.filter(({process}) => process === lane);
      if (!lives.length) pieces.push({x, begin: 0, end: this.height, dead: false});
      let end = null;
      for (const life of lives) {
        if (end !== null) pieces.push({x, begin: end, end: this.y[life.began], dead: true});
        end = life.ended === null ? this.height : this.y[life.ended];
        pieces.push({x, begin: this.y[life.began], end, dead: false});
      }
    }
    layer.selectAll("line").data(pieces.filter(({begin, end}) => begin <= bottom && end >= top)).join("line")
      .attr("class", ({dead}) => (dead ? "lane dead" : "lane")).attr("x1", ({x}) => x).attr("x2", ({x}) => x)
      .attr("y1", ({begin}) => Math.max(begin, top)).attr("y2", ({end}) => Math.min(end, bottom));
    const deaths = run.lives.filter(({process, ended}) => ended !== null && this.x.has(process) && this.y[ended] >= top && this.y[ended] <= bottom);
    layer.selectAll("path").data(deaths).join("path").attr("class", "mark killed").attr("d", d3.symbol(d3.symbolTimes, 110)())
      .attr("transform", ({process, ended}) => `translate(${this.x.get(process)},${this.y[ended]})`)
      .on("click", (_, {ended}) => this.onselect(ended));
  }

  /** Draw times at the left edge, and a line across for the end of each stabilize. */
  drawTimes(layer, from, to) {
    const times = [];
    let last = -Infinity;
    for (let number = from; number < to; number++) {
      if (this.y[number] - last < 44) continue;
      last = this.y[number];
      times.push(number);
    }
    layer.selectAll("text").data(times).join("text").attr("class", "axis").attr("x", 8)
      .attr("y", (number) => this.y[number] + 4).text((number) => run.duration(run.events[number].time));
    const stable = d3.range(from, to).filter((number) => run.events[number].kind === "stable" && this.isShown(run.events[number]));
    const [left, right] = d3.extent([...this.x.values()]);
    layer.selectAll("line").data(stable).join("line").attr("class", "stable").attr("x1", left + 60).attr("x2", right)
      .attr("y1", (number) => this.y[number]).attr("y2", (number) => this.y[number]);
  }

  place(number) {
    return [this.x.get(run.events[number].process), this.y[number]];
  }

  drawArrows(layer, top, bottom) {
    const drawn = new Set();
    const crossing = this.arrows.filter(({sent, received}) => this.y[received] >= top && this.y[sent] <= bottom);
    this.dense = crossing.length > DENSE;
    const inSight = crossing.filter((message) => {
      if (this.isFollowed(message)) return true;
      if (this.dense && !message.writes.length) return false;
      const [begin, end] = [this.y[message.sent], this.y[message.received]];
      const pixels = [run.events[message.sent].process, run.events[message.received].process, begin >> 1, end >> 1].join();
      if (drawn.has(pixels)) return false;
      drawn.add(pixels);
      return true;
    });
    const look = (message) => {
      const kind = message.writes.length ? "moved" : kindOfMessage(message) === "operations" ? "operation" : "call";
      return `${kind}${message.answer ? " answer" : ""}${this.isFollowed(message) ? " on" : ""}`;
    };
    const path = (message) => {
      const [[x1, y1], [x2, y2]] = [this.place(message.sent), this.place(message.received)];
      return `M${x1},${y1}L${x2},${y2}`;
    };
    layer.selectAll("path.message").data(inSight).join("path").attr("class", (message) => `message ${look(message)}`).attr("d", path);
    layer.selectAll("path.tip").data(this.dense ? [] : inSight).join("path").attr("class", (message) => `tip ${look(message)}`)
      .attr("d", "M0,0L-8,-3.2L-8,3.2Z").attr("transform", (message) => {
        const [[x1, y1], [x2, y2]] = [this.place(message.sent), this.place(message.received)];
        return `translate(${x2},${y2}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI}) translate(-5,0)`;
      });
    layer.selectAll("path.reach").data(this.dense ? [] : inSight).join("path").attr("class", "reach").attr("d", path)
      .attr("data-message", (message) => message.number)
      .on("pointermove", (pointer, message) => this.onhover(pointer, sayMessage(message)))
      .on("pointerleave", () => this.onhover(null))
      .on("click", (_, message) => this.onselect(this.nextMark(message.received)));
  }

  /** Draw the messages that were lost: arrows that end on the way, in a cross. */
  drawLosses(layer, top, bottom) {
    const lost = this.losses.filter(({event}) => this.y[event] >= top - ROW && this.y[event] <= bottom);
    const end = ({event, sender, receiver}) => [0.4 * this.x.get(sender) + 0.6 * this.x.get(receiver), this.y[event] + 9];
    layer.selectAll("path.message").data(lost).join("path").attr("class", ({answer}) => `message lost${answer ? " answer" : ""}`)
      .attr("d", (loss) => `M${this.x.get(loss.sender)},${this.y[loss.event]}L${end(loss)}`);
    layer.selectAll("path.cross").data(lost).join("path").attr("class", "cross")
      .attr("d", (loss) => `M${end(loss)}m-5,-5l10,10m0,-10l-10,10`)
      .on("pointermove", (pointer, {event}) => this.onhover(pointer, sayEvent(event)))
      .on("pointerleave", () => this.onhover(null));
  }

  /** Returns the mark for what a message brought: the next mark of its receiver. */
  nextMark(number) {
    const {process} = run.events[number];
    return this.marks.find((mark) => mark >= number && run.events[mark].process === process) ?? number;
  }

  isFollowed(message) {
    const {operation = null} = run.events[this.selected] ?? {};
    return message.writes.some((write) => this.followed.has(write)) || (operation !== null && message.operations.includes(operation))
      || message.operations.some((one) => this.followed.has(run.operations[one].write) && run.operations[one].put);
  }

  /** Draw the ways that the followed writes took from server to server. */
  drawFollowed(layer) {
    const ways = [];
    for (const write of this.followed) {
      for (const {message} of run.writes[write].arrivals) if (message !== null) ways.push(run.messages[message]);
    }
    layer.selectAll("path").data(ways.filter(({sent, received}) => this.x.has(run.events[sent].process) && this.x.has(run.events[received].process)))
      .join("path").attr("class", "followed").attr("d", ({sent, received}) => `M${this.place(sent)}L${this.place(received)}`);
  }

  isOn(number) {
    const {operation, writes} = run.events[number];
    if (number === this.selected || (operation !== null && operation === run.events[this.selected]?.operation)) return true;
    const {write} = run.operations[operation] ?? {};
    return this.followed.has(write) || writes.some((one) => this.followed.has(one));
  }

  drawMarks(layer, from, to) {
    const last = new Map(); // lane -> the height of its last mark
    const marks = [];
    for (let index = d3.bisectLeft(this.marks, from); index < this.marks.length && this.marks[index] < to; index++) {
      const number = this.marks[index];
      const event = run.events[number];
      const look = run.lookOf(event);
      const y = this.y[number];
      const matters = number === this.selected || ["dependency", "error", "warning", "killed"].includes(look);
      if (y - last.get(event.process) < 3 && !matters) continue;
      const telling = !this.dense || matters || (event.kind === "command" && event.operation === null);
      last.set(event.process, y);
      const chosen = number === this.selected;
      const rank = chosen ? 2 : matters ? 1 : 0;
      marks.push({number, event, look, x: this.x.get(event.process), y, on: this.isOn(number), rank, telling: telling || chosen});
    }
    this.label(marks);
    const shape = {command: d3.symbolSquare, error: d3.symbolSquare, warning: d3.symbolSquare, learnt: d3.symbolDiamond, started: d3.symbolTriangle, killed: d3.symbolTimes};
    const size = {command: 42, learnt: 88, started: 70, killed: 110, other: 18};
    const listening = (drawn) => drawn.on("pointermove", (pointer, {number}) => this.onhover(pointer, sayEvent(number)))
      .on("pointerleave", () => this.onhover(null))
      .on("click", (_, {number}) => this.onselect(number));
    const symbol = ({look}) => d3.symbol(shape[look] ?? d3.symbolCircle, size[look] ?? 78)();
    layer.selectAll("path").data(marks, ({number}) => number).join("path")
      .attr("class", ({look, on}) => `mark ${look}${on ? " on" : ""}`).attr("d", symbol)
      .attr("transform", ({x, y}) => `translate(${x},${y})`)
      .attr("data-event", ({number}) => number)
      .call(listening);
    layer.selectAll("text").data(marks.filter(({label}) => label), ({number}) => number).join("text")
      .attr("class", ({look, on}) => `label ${look}${on ? " on" : ""}`)
      .attr("x", ({x}) => x + BESIDE).attr("y", ({y}) => y + 4).text(({label}) => label).call(listening);
    const ring = this.selected === null || !this.x.has(run.events[this.selected].process) ? [] : [this.selected];
    layer.selectAll("circle").data(ring).join("circle").attr("class", "ring").attr("r", 9.5)
      .attr("cx", (number) => this.place(number)[0]).attr("cy", (number) => this.place(number)[1]);
  }

  /** Give the marks their labels, so that no label covers another or a mark: what matters comes first. */
  label(marks) {
    const taken = d3.rollup(marks, () => [], ({x}) => x); // lane -> the heights of its labels
    for (const {index, mark} of marks.map((one, index) => ({index, mark: one})).sort((one, other) => other.mark.rank - one.mark.rank)) {
      const {event, x, y, look, telling} = mark;
      if (!telling || taken.get(x).some((height) => Math.abs(height - y) < LINE)) continue;
      const column = this.gap * (run.kindOf[event.process] === "master" ? MASTER : 1);
      const room = Math.min(Math.max(LABEL, column), this.end(marks, index) - x) - BESIDE - 8;
      mark.font = look === "command" ? COMMAND : PLAIN;
      mark.label = fitted(event.text, room, mark.font);
      if (mark.label) taken.get(x).push(y);
    }
  }

  /** Returns the x of what is next to the right of a mark: another mark, or the edge. */
  end(marks, index) {
    const {x, y} = marks[index];
    let end = this.width;
    const look = (step) => {
      for (let at = index + step; at in marks && Math.abs(marks[at].y - y) < LINE; at += step) {
        if (marks[at].x > x) end = Math.min(end, marks[at].x);
      }
    };
    look(-1);
    look(1);
    return end;
  }

  // -- a picture to keep ----------------------------------------------------------------------------------

  /** Returns the whole diagram as the text of an SVG file; for a long run, only what is in sight. */
  picture(most = 12000) {
    const whole = this.height <= most;
    const top = whole ? 0 : this.scroller.scrollTop;
    const bottom = whole ? this.height : Math.min(this.height, top + this.scroller.clientHeight);
    const height = bottom - top + HEAD;
    const svg = d3.create("svg").attr("xmlns", "http://www.w3.org/2000/svg").attr("class", "diagram");
    svg.append("style").text(document.getElementById("diagram-style").textContent);
    const paper = svg.append("rect").attr("height", height).attr("fill", "#fff");
    this.drawHeads(svg.append("svg"));
    this.drawInto(svg.append("svg").attr("class", "diagram").attr("y", HEAD).attr("width", this.width).attr("height", bottom - top)
      .attr("viewBox", `0 ${top} ${this.width} ${bottom - top}`), top, bottom);
    // The letters may be a bit wider on the screen where the picture is looked at.
    const ends = svg.selectAll(".label").data().map(({x, label, font}) => x + BESIDE + 1.1 * pixels(label, font));
    const width = Math.ceil(Math.max(...ends, ...[...this.x.values()].map((x) => x + 50)));
    svg.attr("viewBox", `0 0 ${width} ${height}`).attr("width", width).attr("height", height);
    paper.attr("width", width);
    svg.selectAll(".reach").remove();
    svg.selectAll("[data-event]").attr("data-event", null);
    return svg.node().outerHTML;
  }
}

/** Returns where to scroll to, so that a place is in sight with room around it, and the others too if that is possible. */
function scrolled(now, size, place, others, before, behind) {
  let [low, high] = d3.extent([place, ...others]);
  if (high - low > size - before - behind) low = high = place;
  const inSight = low >= now + before && high <= now + size - behind;
  return inSight ? now : Math.max(0, (low + high - size) / 2);
}
