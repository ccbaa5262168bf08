// The second view of the diagram: each put or get as a bar, from its command to its answer, in the lane of its client.
//
// This is how Jepsen's timeline shows operations. What is under way at a time stands side by side.

import { duration } from "./dom.js";
import { fitted, PLAIN } from "./texts.js";

const LEAST = 4; // pixels: the least height and width of a bar
const LABELLED = 14; // pixels: bars that are lower have no label

/** Draws the bars between two heights. */
export function drawBars(diagram, layer, top, bottom) {
  const { run, layout } = diagram;
  const bars = barsIn(diagram, top, bottom);
  const room = layout.gap - 14;
  const listening = (drawn) =>
    diagram.listen(
      drawn,
      ({ done }) => sayOperation(run, done),
      ({ number }) => diagram.onselect(number),
    );
  const x = ({ done, place, places }) => layout.x.get(done.client) - 8 + (room * place) / places;
  const width = ({ places }) => Math.max(LEAST, room / places - 2);
  layer
    .selectAll("rect.bar")
    .data(bars, ({ number }) => number)
    .join("rect")
    .attr("class", ({ look, on }) => `bar ${look}${on ? " on" : ""}`)
    .attr("data-event", ({ number }) => number)
    .attr("x", x)
    .attr("width", width)
    .attr("y", ({ begin }) => begin)
    .attr("height", ({ begin, end }) => end - begin)
    .attr("rx", 2)
    .call(listening);
  layer
    .selectAll("text.bar")
    .data(
      bars.filter((bar) => {
        bar.label = bar.end - bar.begin < LABELLED ? "" : fitted(run.events[bar.number].text, width(bar) - 8, PLAIN);
        return bar.label;
      }),
      ({ number }) => number,
    )
    .join("text")
    .attr("class", ({ look }) => `label bar ${look}`)
    .attr("x", (bar) => x(bar) + 4)
    .attr("y", ({ begin, end }) => (begin + end) / 2 + 4)
    .text(({ label }) => label)
    .call(listening);
}

/** Returns the bars that can be seen, each with its place among those that are under way with it. */
function barsIn(diagram, top, bottom) {
  const { run, layout } = diagram;
  const bars = [];
  for (const done of run.operations) {
    const number = done.event ?? done.command;
    if (number === null || done.command === null || !diagram.isSeen(run.events[number]) || !layout.x.has(done.client))
      continue;
    if (layout.key && done.key !== layout.key) continue;
    const begin = layout.y[done.command];
    const end = Math.max(begin + LEAST, layout.y[number]);
    if (end < top || begin > bottom) continue;
    bars.push({ done, number, begin, end, look: run.lookOf(run.events[number]), on: diagram.isOn(number) });
  }
  for (const lane of d3.group(bars, ({ done }) => done.client).values()) sideBySide(lane);
  return bars;
}

/** Give the bars of a lane places, so that those that overlap in time stand side by side. */
function sideBySide(bars) {
  let cluster = [];
  let end = -Infinity;
  const close = () => {
    const places = 1 + (d3.max(cluster, ({ place }) => place) ?? 0);
    for (const bar of cluster) bar.places = places;
    cluster = [];
  };
  let free = []; // place -> where it is free again
  for (const bar of d3.sort(bars, (one) => one.begin)) {
    if (bar.begin >= end) {
      close();
      free = [];
    }
    const found = free.findIndex((height) => height <= bar.begin);
    bar.place = found < 0 ? free.length : found;
    free[bar.place] = bar.end;
    end = Math.max(end, bar.end);
    cluster.push(bar);
  }
  close();
}

function sayOperation(run, { put, key, value, client, began, ended, asked, outcome }) {
  const what = put ? `put ${key} ${value}` : `get ${key}`;
  const servers = asked.map(({ server, answer }) => `${run.processes[server]}: ${answer}`);
  return [
    what,
    run.processes[client],
    `from ${duration(began)}, took ${duration(Math.max(0, ended - began))}`,
    ...servers,
    outcome,
  ];
}
