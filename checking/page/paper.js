// The diagram apart from the window: as a picture to keep, and on paper, where it flows over pages.

import { BESIDE, Diagram } from "./diagram.js";
import { element } from "./dom.js";
import { HEAD, Layout, ROW } from "./layout.js";
import { pixels } from "./texts.js";

const TALLEST = 12_000; // pixels: of a run that is longer, only what is in sight
const WIDTH = 700; // pixels: about what A4 has room for
const COLUMN = 190; // pixels for each process in a picture
const STRIP = 110; // pixels: pages break between strips
const GAP = 15; // pixels between two marks, between which a strip may end

/** Returns a diagram like another, in which nothing is chosen, to be drawn elsewhere. */
function copyOf({ run, scroller, limit, hiddenFrom }, layout) {
  const nothing = { selected: null, followed: new Set(), onselect() {}, onhover() {} };
  return Object.assign(Object.create(Diagram.prototype), { run, scroller, limit, hiddenFrom, layout, ...nothing });
}

/** Returns the whole diagram as the text of an SVG file; for a long run, only what is in sight. *width*: of a window. */
export function picture(diagram, width = diagram.layout.lanes().length * COLUMN) {
  const copy = copyOf(diagram, layoutLike(diagram, width));
  const { layout } = copy;
  const [top, bottom] = extent(copy);
  const height = bottom - top + HEAD;
  const svg = d3.create("svg").attr("xmlns", "http://www.w3.org/2000/svg").attr("class", "diagram");
  svg.append("style").text(document.getElementById("diagram-style").textContent);
  const paper = svg.append("rect").attr("height", height).attr("fill", "#fff");
  copy.drawHeads(svg.append("svg"));
  const inner = svg.append("svg").attr("class", "diagram").attr("y", HEAD).attr("width", layout.width);
  inner.attr("height", bottom - top).attr("viewBox", `0 ${top} ${layout.width} ${bottom - top}`);
  copy.drawInto(inner, top, bottom, true);
  // The letters may be a bit wider on the screen where the picture is looked at.
  const labels = svg.selectAll("g.marks .label").data();
  const ends = labels.map(({ x, label, font }) => x + BESIDE + 1.1 * pixels(label, font));
  const end = Math.ceil(Math.max(...ends, ...[...layout.x.values()].map((x) => x + 50)));
  svg.attr("viewBox", `0 0 ${end} ${height}`).attr("width", end).attr("height", height);
  paper.attr("width", end);
  svg.selectAll(".reach").remove();
  svg.selectAll("[data-event]").attr("data-event", null);
  return svg.node().outerHTML;
}

/** Returns the layout of a diagram as it would be in a window of another width. */
function layoutLike({ run, layout, scroller }, width, { zoom, fitting } = layout) {
  if (layout.height > TALLEST) return layout;
  const { shown, key, hidden, view, axis } = layout;
  const like = Object.assign(new Layout(run), { shown, key, hidden, view, axis, zoom, fitting });
  like.measure(width, scroller.clientHeight);
  return like;
}

function extent({ layout, scroller }) {
  if (layout.height <= TALLEST) return [0, layout.height];
  return [scroller.scrollTop, Math.min(layout.height, scroller.scrollTop + scroller.clientHeight)];
}

/** Returns the diagram for paper: a table whose head, with the names of the processes, comes again on each page. */
export function sheet(diagram) {
  const layout = layoutLike(diagram, WIDTH, { zoom: 1, fitting: false });
  const copy = copyOf(diagram, layout);
  const [from, end] = extent(copy);
  const ends = [...cuts(layout, from, end), end];
  const drawn = (height, draw) => {
    const svg = d3.create("svg").attr("viewBox", `0 0 ${layout.width} ${height}`);
    draw(svg);
    return svg.attr("width", null).attr("height", null).node();
  };
  const heads = drawn(HEAD, (svg) => copy.drawHeads(svg));
  let top = from;
  const strips = ends.map((bottom) => {
    const begin = top;
    top = bottom;
    return drawn(bottom - begin, (svg) => {
      svg.attr("class", "diagram").attr("viewBox", `0 ${begin} ${layout.width} ${bottom - begin}`);
      copy.drawInto(svg, begin, bottom, true);
    });
  });
  const row = (name, svg) => element("tr", {}, element(name, {}, svg));
  return element(
    "table",
    { class: "sheet" },
    element("thead", {}, row("th", heads)),
    element(
      "tbody",
      {},
      strips.map((strip) => row("td", strip)),
    ),
  );
}

/** Returns heights at which the diagram can be cut without cutting a mark or its label. */
function* cuts({ marks, y }, from, end) {
  let last = from;
  for (const [one, next] of d3.pairs(marks)) {
    const middle = (y[one] + y[next]) / 2;
    if (y[next] - y[one] < GAP || middle - last < STRIP || middle > end - ROW) continue;
    last = middle;
    yield middle;
  }
}
