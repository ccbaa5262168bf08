// The diagram from far away: where events are too close to be seen, rows of them are summed up.
//
// A row of a lane is a bar of what happened there (puts, gets, ERR_KEYs, ERR_DEPs, writes learnt), with its number, and
// a line between two lanes is a bundle of messages, the thicker the more there are.

import { count } from "./dom.js";
import { fitted, PLAIN } from "./texts.js";

const BUCKET = 22; // pixels
const THICK = 11;
const CROWDED = 5; // pixels for each mark, on average; below this, marks are summed up
const FEW = 120; // marks that can always be seen

/** The parts of a bar, from its left to its right, and what one and many of them are called. */
const PARTS = [
  ["command", "command", "commands"],
  ["put", "put", "puts"],
  ["get", "get", "gets"],
  ["missing", "ERR_KEY", "ERR_KEYs"],
  ["dependency", "ERR_DEP", "ERR_DEPs"],
  ["learnt", "exchange", "exchanges"],
  ["started", "start", "starts"],
  ["error", "error", "errors"],
];
const CALM = ["put", "get", "stabilize", "printStore"]; // commands that change no process and no link

/** Whether the marks between two positions, in sight together, are so many that they have to be summed up. */
export function isCrowded(marks, height) {
  return marks > FEW && marks > height / CROWDED;
}

/** Draws what lies between two heights as sums. */
export function drawSummary(diagram, layer, top, bottom, from, to) {
  const cells = cellsOf(diagram, from, to);
  const most = d3.max(cells, ({ total }) => total) ?? 1;
  const widest = Math.max(12, diagram.layout.gap * 0.5);
  for (const cell of cells) {
    let { x } = cell;
    cell.parts = PARTS.filter(([look]) => cell.counts[look]).map(([look]) => {
      const width = Math.max(3, (widest * cell.counts[look]) / most);
      const part = { cell, look, x, width };
      x += width;
      return part;
    });
    cell.end = x;
  }
  drawBundles(diagram, layer, top, bottom);
  const listening = (drawn, cellOf) =>
    diagram.listen(
      drawn,
      (one) => sayCell(diagram, cellOf(one)),
      (one) => diagram.zoomInto(cellOf(one).first),
    );
  layer
    .selectAll("rect.sum")
    .data(cells.flatMap(({ parts }) => parts))
    .join("rect")
    .attr("class", ({ look }) => `sum ${look}`)
    .attr("x", ({ x }) => x)
    .attr("width", ({ width }) => width)
    .attr("y", ({ cell }) => cell.y - THICK / 2)
    .attr("height", THICK)
    .call(listening, ({ cell }) => cell);
  layer
    .selectAll("text.sum")
    .data(cells.filter((cell) => labelOf(diagram, cell)))
    .join("text")
    .attr("class", ({ counts }) => `label sum${counts.dependency ? " dependency" : ""}`)
    .attr("x", ({ end }) => end + 4)
    .attr("y", ({ y }) => y + 4)
    .text((cell) => labelOf(diagram, cell))
    .call(listening, (cell) => cell);
}

function labelOf(diagram, cell) {
  const { counts, total, end, x, notable, lane } = cell;
  const room = diagram.layout.column(lane) - (end - x) - 12;
  const told = notable.length > 1 ? `${notable.length} changes` : notable[0];
  const text = counts.dependency ? `${counts.dependency} ERR_DEP` : (told ?? `${total}`);
  return fitted(text, room, PLAIN);
}

function sayCell(diagram, { lane, counts, lines }) {
  const [first, last] = d3.extent(lines);
  const parts = PARTS.filter(([look]) => counts[look]).map(([look, one, many]) => count(counts[look], one, many));
  const where = first === undefined ? [] : [first === last ? first : `${first} to ${last}`];
  return [diagram.run.processes[lane], parts.join(", "), ...where, "a click zooms in"];
}

/** Returns the cells: for each lane and bucket, what happened there. */
function cellsOf(diagram, from, to) {
  const { run, layout } = diagram;
  const cells = new Map();
  for (const number of layout.marksBetween(from, to)) {
    const event = run.events[number];
    if (!diagram.isSeen(event)) continue;
    const x = layout.x.get(event.process);
    const look = run.lookOf(event);
    if (x === undefined || !PARTS.some(([part]) => part === look)) continue;
    const bucket = Math.floor(layout.y[number] / BUCKET);
    const name = bucket * run.processes.length + event.process;
    let cell = cells.get(name);
    if (cell === undefined) {
      cell = {
        lane: event.process,
        x,
        y: (bucket + 0.5) * BUCKET,
        first: number,
        counts: {},
        total: 0,
        notable: [],
        lines: [],
      };
      cells.set(name, cell);
    }
    cell.counts[look] = (cell.counts[look] ?? 0) + 1;
    cell.total++;
    if (event.where) cell.lines.push(number);
    if (look === "command" && !CALM.includes(event.text.split(" ")[0])) cell.notable.push(event.text);
  }
  for (const cell of cells.values()) {
    const ends = cell.lines.length ? [cell.lines[0], cell.lines.at(-1)] : [];
    cell.lines = ends.map((end) => run.events[end].where);
  }
  return [...cells.values()];
}

/** Draw the messages between two heights as bundles. */
function drawBundles(diagram, layer, top, bottom) {
  const { run, layout } = diagram;
  const bundles = new Map();
  for (const message of layout.arrows) {
    const y = layout.y[message.received];
    if (y < top || y > bottom || message.received > diagram.limit) continue;
    const [from, to] = run.endsOf(message);
    if (!layout.x.has(from) || !layout.x.has(to)) continue;
    const bucket = Math.floor(y / BUCKET);
    const look = message.writes.length ? "moved" : "operation";
    const name = `${bucket} ${Math.min(from, to)} ${Math.max(from, to)} ${look}`;
    const bundle = bundles.get(name);
    if (bundle) bundle.size++;
    else bundles.set(name, { from, to, look, y: (bucket + 0.5) * BUCKET + (look === "moved" ? 8 : 0), size: 1 });
  }
  layer
    .selectAll("line.bundle")
    .data([...bundles.values()])
    .join("line")
    .attr("class", ({ look }) => `bundle ${look}`)
    .attr("x1", ({ from }) => layout.x.get(from))
    .attr("x2", ({ to }) => layout.x.get(to))
    .attr("y1", ({ y }) => y)
    .attr("y2", ({ y }) => y)
    .attr("stroke-width", ({ size }) => Math.min(3, 0.6 + Math.log10(size)));
}
