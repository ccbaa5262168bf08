// One run in the middle of the page: the player with its sentence, the diagram, the minimap, the stores; what is chosen.

import { Diagram } from "./diagram.js";
import { duration, element } from "./dom.js";
import { Minimap } from "./minimap.js";
import { Stores } from "./stores.js";

const BEAT = 1500; // milliseconds for each step while the run is played
const MOST_FOLLOWED = 50; // writes

export class View {
  /** *suffix*: tells the ids of a second run from those of the first. */
  constructor(run, place, suffix = "") {
    this.run = run;
    this.moment = 0; // the event at which the run is looked at: the chosen one, or else the last one in sight
    this.onchoose = () => {};
    this.onmoment = () => {};
    this.build(place, suffix);
    this.diagram = new Diagram(run, this.scroller, this.heads, this.canvas);
    this.stores = new Stores(run, this.table, (number) => this.choose(number));
    this.minimap = new Minimap(this.map, this.diagram);
    this.diagram.onselect = (number) => this.choose(number);
    this.diagram.onlayout = () => this.minimap.draw();
    this.diagram.onsight = () => {
      this.minimap.move();
      this.lookAround();
    };
  }

  build(place, suffix) {
    const id = (name) => `${name}${suffix}`;
    const whose = suffix ? " of the second run" : "";
    const button = (name, title, text, onclick) =>
      element("button", { id: id(name), title, "aria-label": title, onclick }, text);
    this.playButton = button("play", "play (space)", "▶", () => this.toggle());
    this.slider = element("input", {
      id: id("slider"),
      type: "range",
      min: 0,
      value: 0,
      step: 1,
      "aria-label": "moment",
    });
    this.slider.addEventListener("input", () =>
      this.chooseMark(this.diagram.layout.marks[Number(this.slider.value)], { follow: false, near: false }),
    );
    this.said = element("p", { id: id("said"), class: "said", "aria-live": "polite" });
    this.time = element("output", { id: id("moment") });
    const controls = element(
      "div",
      { class: "controls" },
      button("back", "step back (arrow up)", "◂", () => this.step(-1)),
      this.playButton,
      button("forth", "step forward (arrow down)", "▸", () => this.step(1)),
      this.slider,
      this.time,
    );
    this.heads = element("div", { id: id("heads"), class: "heads" });
    this.canvas = element("div", { id: id("canvas"), class: "canvas" });
    this.scroller = element(
      "section",
      { id: id("diagram"), class: "scroller", "aria-label": `space-time diagram${whose}`, tabindex: 0 },
      this.heads,
      this.canvas,
    );
    this.map = element("div", {
      id: id("minimap"),
      class: "minimap",
      title: "the whole run: where much happens, and what is in sight",
    });
    this.table = element("div", {
      id: id("table"),
      class: "table",
      tabindex: 0,
      role: "region",
      "aria-label": `stores${whose}`,
    });
    this.sight = element("div", { class: "sight" }, this.scroller, this.map);
    place.append(
      element("section", { class: "player", "aria-label": `moment${whose}` }, controls, this.said),
      this.sight,
      element("section", { id: id("stores"), class: "stores" }, element("h2", {}, "Stores"), this.table),
    );
  }

  /**
   * Choose an event: every part of the page then shows it.
   * *follow*: whether to follow its write. *near*: whether to come so near that it can be told from others.
   */
  choose(number, { follow = true, near = true } = {}) {
    const { run, diagram } = this;
    const { operation: asked, writes } = run.events[number];
    const operation = run.operations[asked] ?? null;
    const seen = operation?.outcome === "ERR_DEP" ? operation.seen : null;
    const about =
      operation === null
        ? writes.slice(0, MOST_FOLLOWED)
        : [operation.put ? operation.write : (seen ?? operation.write)];
    diagram.selected = number;
    this.stores.about = new Set(about.filter((write) => write !== null));
    diagram.followed = follow ? this.stores.about : new Set();
    diagram.goTo(number);
    if (near && diagram.crowded) diagram.zoomInto(number);
    this.lookAt(number);
    this.onchoose(number);
  }

  /** Choose an event, if there is one. */
  chooseMark(number, how = {}) {
    if (number !== undefined) this.choose(number, how);
  }

  /** Choose no event. */
  unchoose() {
    this.diagram.selected = null;
    this.diagram.followed = new Set();
    this.stores.about = new Set();
    this.diagram.draw();
    this.onchoose(null);
    this.lookAround();
  }

  /** The filters have changed: draw what they let through, and choose nothing if the chosen event is hidden now. */
  refilter() {
    const { diagram } = this;
    diagram.layOut();
    if (diagram.selected !== null && !diagram.layout.marks.includes(diagram.selected)) this.unchoose();
    this.lookAt(this.moment);
  }

  /** Look at a moment: show the stores then. The slider goes over the events that are drawn. */
  lookAt(number) {
    const { run, diagram, slider } = this;
    if (number === undefined || !run.events.length) return;
    this.moment = number;
    slider.max = diagram.layout.positionOf(diagram.limit);
    slider.value = diagram.layout.positionOf(number);
    slider.setAttribute("aria-valuetext", run.events[number].said || run.events[number].text);
    this.stores.show(number);
    const chosen = diagram.selected !== null;
    this.time.textContent = duration(run.events[number].time);
    this.time.title = chosen ? "when this happened" : "the last event in sight";
    this.said.textContent = chosen
      ? run.events[number].said || run.events[number].text
      : "Nothing is chosen: the stores are those at the last event in sight.";
    this.onmoment(number);
  }

  /** If no event is chosen, look at the last event in sight. */
  lookAround() {
    const number = this.diagram.lastInSight();
    if (this.diagram.selected === null && number !== this.moment) this.lookAt(number);
  }

  /** Go to the next event that is drawn, or the one before. Returns whether there is one. */
  step(by) {
    const { marks } = this.diagram.layout;
    const next = by > 0 ? marks[d3.bisectRight(marks, this.moment)] : marks[d3.bisectLeft(marks, this.moment) - 1];
    if (next === undefined || next > this.diagram.limit) return false;
    this.choose(next);
    return true;
  }

  /** Go to the next line of the script, or the one before. */
  stepLine(by) {
    const { run } = this;
    const line = run.ran[run.ran.indexOf(run.lineAt(this.moment)) + by];
    if (line && line.event <= this.diagram.limit) this.choose(Math.min(run.eventOf(line), this.diagram.limit));
  }

  /** Go to the first event that is drawn, or to the last. */
  stepToEnd(last) {
    const marks = this.diagram.layout.marks;
    this.chooseMark(last ? marks[d3.bisectRight(marks, this.diagram.limit) - 1] : marks[0]);
  }

  // -- playing --------------------------------------------------------------------------------------------

  toggle() {
    if (this.beat) this.pause();
    else this.play();
  }

  play() {
    this.playButton.textContent = "❚❚";
    this.playButton.setAttribute("aria-label", "pause (space)");
    this.beat = setInterval(() => {
      if (!this.step(1)) this.pause();
    }, BEAT);
    if (!this.step(1)) this.pause();
  }

  pause() {
    clearInterval(this.beat);
    this.beat = undefined;
    this.playButton.textContent = "▶";
    this.playButton.setAttribute("aria-label", "play (space)");
  }
}
