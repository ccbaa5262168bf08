// What the shapes and colours mean.

import { shapeOf } from "./diagram.js";
import { element } from "./dom.js";

const MARKS = [
  ["command", "a command of the script"],
  ["error", "an error, also of a put or get"],
  ["warning", "a warning"],
  ["put", "a put: at its client, and at each server that took it"],
  ["get", "a get that was answered"],
  ["dependency", "ERR_DEP: older than what the session has seen"],
  ["missing", "ERR_KEY: no value"],
  ["learnt", "a server has learnt writes from another"],
  ["started", "a server starts, or is revived"],
  ["killed", "a server is dead"],
  ["other", "a link is made or cut, or stabilize is done"],
];

const LINES = [
  ["message operation", "a call about a put or get"],
  ["message operation answer", "its answer"],
  ["message moved", "a message that brought writes"],
  ["message lost", "a message that was lost, on a lossy link"],
  ["followed", "the way of the write that is chosen"],
  ["stable", "the end of a stabilize"],
];

const BOXES = [
  ["partition", "servers of one partition have one colour while there are several"],
  ["sum", "many events summed up: the wider, the more; come nearer with + or a click"],
];

/** Returns the legend. */
export function legend() {
  const drawn = (make, text) => {
    const svg = d3
      .create("svg")
      .attr("class", "diagram")
      .attr("viewBox", "-14 -9 28 18")
      .attr("width", 28)
      .attr("height", 18)
      .attr("aria-hidden", "true");
    make(svg);
    return element("li", {}, svg.node(), element("span", {}, text));
  };
  const items = [
    ...MARKS.map(([look, text]) =>
      drawn((svg) => svg.append("path").attr("class", `mark ${look}`).attr("d", shapeOf(look)), text),
    ),
    drawn((svg) => svg.append("circle").attr("class", "ring").attr("r", 7), "around the event that is chosen"),
    ...LINES.map(([look, text]) => drawn((svg) => svg.append("path").attr("class", look).attr("d", "M-13,0H13"), text)),
    ...BOXES.map(([look, text]) =>
      drawn((svg) => {
        const fill = look === "partition" ? d3.schemeTableau10[0] : null;
        svg
          .append("rect")
          .attr("class", look === "sum" ? "sum put" : look)
          .attr("fill", fill)
          .attr("x", -12)
          .attr("width", 24)
          .attr("y", -6)
          .attr("height", 12);
        if (fill)
          svg
            .append("rect")
            .attr("class", "edge")
            .attr("fill", fill)
            .attr("x", -12)
            .attr("width", 5)
            .attr("y", -6)
            .attr("height", 12);
      }, text),
    ),
  ];
  return element("ul", {}, items);
}
