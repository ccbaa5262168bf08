// The whole run in a strip beside the diagram: where much happens, ERR_DEPs, partitions and deaths, and what is in sight.
//
// It is a scroll bar that says what is where. With the keyboard, the slider and the search do what a click on it does.

import { COLOURS } from "./diagram.js";
import { element } from "./dom.js";

// Pixels from the left edge: where the bands of partitions end, and where the other columns begin.
const BANDS = 9;
const MANY = 12;
const DEATHS = 31;
const MISSED = 38;

export class Minimap {
  constructor(place, diagram) {
    this.diagram = diagram;
    this.canvas = element("canvas");
    this.window = element("div", { class: "window" });
    this.place = place;
    place.append(this.canvas, this.window);
    const go = ({ clientY, buttons, type }) => {
      if (type === "pointermove" && !buttons) return;
      const { top, height } = place.getBoundingClientRect();
      const { scroller, layout } = this.diagram;
      scroller.scrollTop = ((clientY - top) / height) * layout.height - this.diagram.room / 2;
    };
    place.addEventListener("pointerdown", (pointer) => {
      place.setPointerCapture(pointer.pointerId);
      go(pointer);
    });
    place.addEventListener("pointermove", go);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Draw all of it; to be called when places have changed. */
  draw() {
    const { layout, run } = this.diagram;
    const { clientWidth: width, clientHeight: height } = this.place;
    if (!width || !height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.place);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const at = (number) => Math.min(height - 1, Math.floor((layout.y[number] / layout.height) * height));
    run.partitions.forEach(([event, components], index) => {
      if (components.length < 2) return;
      const next = run.partitions[index + 1];
      const [begin, end] = [at(event), next ? at(next[0]) : height];
      run.colours[index].forEach((number, part) => {
        pen.fillStyle = COLOURS[number % COLOURS.length];
        const each = BANDS / components.length;
        pen.fillRect(part * each, begin, Math.max(1, each), Math.max(1, end - begin));
      });
    });
    const [many, missed, deaths] = [0, 1, 2].map(() => new Uint32Array(height));
    for (const number of layout.marks) {
      const event = run.events[number];
      const look = run.lookOf(event);
      if (look === "dependency" || look === "error") missed[at(number)]++;
      else if (look === "killed") deaths[at(number)]++;
      else if (event.operation !== null) many[at(number)]++;
    }
    this.strip(pen, many, colour("put"), MANY, DEATHS - 2, 1);
    this.strip(pen, deaths, colour("ink"), DEATHS, MISSED - 2, 2);
    this.strip(pen, missed, colour("dependency"), MISSED, width, 2);
    this.move();
  }

  /** Draw how often something happens, as lines of *thick* pixels: the longer, the more often. */
  strip(pen, rows, colour, left, right, thick) {
    const most = Math.max(1, d3.max(rows) ?? 1);
    pen.fillStyle = colour;
    rows.forEach((number, row) => {
      if (number) pen.fillRect(left, row, Math.max(3, ((right - left) * number) / most), thick);
    });
  }

  /** Show what is in sight. */
  move() {
    const { layout, scroller, room } = this.diagram;
    const share = (pixels) => `${Math.min(100, (100 * pixels) / Math.max(1, layout.height))}%`;
    this.window.style.top = share(scroller.scrollTop);
    this.window.style.height = `max(6px, ${share(room)})`;
  }
}
