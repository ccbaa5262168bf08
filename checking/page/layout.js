// Where everything in the diagram is: which events get a mark, the x of each process, the y of each event.
//
// Nothing here draws. All heights are those of the whole diagram, which may be millions of pixels high.

import { KINDS } from "./run.js";

export const ROW = 24; // pixels between two events, in order
export const HEAD = 46;
const NARROW = 90; // columns are not narrower than this, or labels would say little; one scrolls to the others
const LEFT = 78; // where the lane of the master is
const WIDE = 260;
const ARROW_END = 0.45; // rows that an event takes which is only the end of an arrow
const MASTER = 1.5; // columns: the labels of the master are whole commands
const LAST = 1.4; // columns: the labels of the last lane have no room beyond it
const NEAR = 4; // rows between two events at the largest zoom; in real time, between half of them
const TALLEST = 8e6; // pixels, which is what browsers can bear

const ALWAYS = ["killed", "started", "linked", "unlinked", "stable", "error", "warning"];

export class Layout {
  constructor(run) {
    this.run = run;
    this.axis = "order";
    this.zoom = 1;
    this.fitting = false; // whether all columns have to be in sight, however narrow they become
    this.shown = Object.fromEntries(Object.entries(KINDS).map(([kind, [, first]]) => [kind, first]));
    this.key = "";
    this.hidden = new Set();
    this.view = "diagram";
  }

  /** Whether the event gets a mark, with the filters as they are. */
  isShown(event) {
    if (this.hidden.has(event.process)) return false;
    if (this.key && !ALWAYS.includes(event.kind)) {
      const keys = this.run.keysOf(event);
      if (keys.length ? !keys.includes(this.key) : /^(put|get) /.test(event.text)) return false;
    }
    switch (event.kind) {
      case "operated":
      case "executed":
      case "undone":
        return this.shown.operations;
      case "learnt":
        return this.shown.exchanges;
      case "linked":
      case "unlinked":
        return this.shown.links;
      case "command":
      case "started":
      case "killed":
      case "stable":
      case "error":
      case "warning":
        return true;
      default:
        return false;
    }
  }

  isMessageShown(message) {
    const kind = this.run.kindOfMessage(message);
    if (!this.shown[kind] || this.run.endsOf(message).some((process) => this.hidden.has(process))) return false;
    return !this.key || !["operations", "exchanges"].includes(kind) || this.run.keysOf(message).includes(this.key);
  }

  isLossShown(loss) {
    const { sender, receiver } = loss;
    return this.shown[this.run.kindOfLoss(loss)] && !this.hidden.has(sender) && !this.hidden.has(receiver);
  }

  /** Returns the processes that have a lane. */
  lanes() {
    const lanes = d3.range(this.run.processes.length).filter((process) => !this.hidden.has(process));
    return this.view === "bars" ? lanes.filter((process) => this.run.kindOf[process] !== "server") : lanes;
  }

  /** Give every event its place, in a window of this size. */
  measure(width, height) {
    const { run } = this;
    this.placeLanes(width);
    this.marks = [];
    this.arrows = run.messages.filter((message) => this.isMessageShown(message));
    const weights = new Float64Array(run.events.length);
    for (const { sent, received } of this.arrows) {
      weights[sent] = ARROW_END;
      weights[received] = ARROW_END;
    }
    this.losses = run.losses.filter((loss) => this.isLossShown(loss));
    for (const { event } of this.losses) weights[event] = ARROW_END;
    for (const event of run.events) {
      if (!this.isShown(event)) continue;
      this.marks.push(event.number);
      weights[event.number] = 1;
    }
    // In order, an event stands in the middle of its room; one without mark or arrow takes none.
    let [rows, before] = [0, 0];
    const places = new Float64Array(run.events.length);
    run.events.forEach(({ time }, number) => {
      rows += (weights[number] + before) / 2;
      before = weights[number];
      places[number] = this.axis === "time" ? time : rows;
    });
    const scale = this.scale(places, height);
    this.y = places.map((place) => ROW + place * scale);
    this.height = (this.y.at(-1) ?? 0) + 2 * ROW;
  }

  placeLanes(width) {
    const { run } = this;
    const lanes = this.lanes();
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
  }

  /** Returns the pixels for each row or microsecond. The zoom is kept within its limits: from all at once to few. */
  scale(places, height) {
    const time = this.axis === "time";
    const room = Math.max(1, height - HEAD - 2 - 3 * ROW);
    const all = room / Math.max(1, places.at(-1) ?? 1);
    const unit = time ? all : ROW; // at a zoom of 1
    const gaps = () => d3.pairs(this.marks, (one, next) => places[next] - places[one]).filter((gap) => gap > 0);
    const limit = TALLEST / Math.max(1, places.at(-1) ?? 1);
    const near = Math.min(time ? (NEAR * ROW) / (d3.median(gaps()) ?? 0) : NEAR * ROW, limit);
    const fit = Math.min(all, near);
    const wanted = Math.max(Math.min(fit, unit), Math.min(Math.max(near, Math.min(unit, limit)), this.zoom * unit));
    this.zoom = (this.fitting ? fit : wanted) / unit;
    return this.zoom * unit;
  }

  /** Returns the pixels to the right of a lane that are its own. */
  column(lane) {
    return this.gap * (this.run.kindOf[lane] === "master" ? MASTER : 1);
  }

  /** Returns the events that are drawn from one up to another, which is left out. */
  marksBetween(from, to) {
    return this.marks.slice(d3.bisectLeft(this.marks, from), d3.bisectLeft(this.marks, to));
  }

  /** Returns the position, among the events that are drawn, of the last one up to this. */
  positionOf(number) {
    return Math.max(0, d3.bisectRight(this.marks, number) - 1);
  }

  /** Returns the event that is nearest to a time, of those that are drawn. */
  nearest(time) {
    return d3.least(this.marks, (number) => Math.abs(this.run.events[number].time - time));
  }

  /** Returns the mark for what a message brought: the next mark of its receiver. */
  nextMark(number) {
    const { process } = this.run.events[number];
    for (let index = d3.bisectLeft(this.marks, number); index < this.marks.length; index++) {
      if (this.run.events[this.marks[index]].process === process) return this.marks[index];
    }
    return number;
  }

  place(number) {
    return [this.x.get(this.run.events[number].process), this.y[number]];
  }
}

/** Returns where to scroll to, so that a place is in sight with room around it, and the others too if that is possible. */
export function scrolled(now, size, place, others, before, behind) {
  let [low, high] = d3.extent([place, ...others]);
  if (high - low > size - before - behind) {
    low = place;
    high = place;
  }
  const inSight = low >= now + before && high <= now + size - behind;
  return inSight ? now : Math.max(0, (low + high - size) / 2);
}
