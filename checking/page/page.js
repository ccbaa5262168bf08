// Brings the parts of the page together: filters, keys, the tip, and what was chosen.

import { Charts } from "./charts.js";
import { compare } from "./compare.js";
import { Details } from "./details.js";
import { byId, element } from "./dom.js";
import { otherAnswers, showVerdict, summary } from "./head.js";
import { legend } from "./legend.js";
import { picture, sheet } from "./paper.js";
import { readPlace, writePlace } from "./place.js";
import { isQuestion, Quiz } from "./quiz.js";
import { KINDS, Run } from "./run.js";
import { Script } from "./script.js";
import { Search } from "./search.js";
import { unpack } from "./unpack.js";
import { View } from "./view.js";

const MOST_KEYS = 2000; // that are suggested
const STEPS = { ArrowDown: 1, ArrowRight: 1, j: 1, ArrowUp: -1, ArrowLeft: -1, k: -1 };
const CLOSE = 6; // pixels that the pointer moves before a tip comes back after a click

// -- the tip -------------------------------------------------------------------------------------------------

const tip = byId("tip");
let clicked = null; // where the last click was: what was just clicked is not to be covered

function showTip(pointer, lines = []) {
  if (pointer && clicked && Math.hypot(pointer.clientX - clicked.clientX, pointer.clientY - clicked.clientY) < CLOSE)
    return;
  clicked = null;
  tip.hidden = pointer === null;
  if (pointer === null) return;
  const [heading, ...rest] = lines;
  tip.replaceChildren(element("b", {}, heading), ...rest.map((line) => element("small", {}, line)));
  const { offsetWidth: width, offsetHeight: height } = tip;
  tip.style.left = `${Math.max(4, Math.min(pointer.clientX + 16, innerWidth - width - 8))}px`;
  const below = pointer.clientY + 20;
  tip.style.top = `${below + height > innerHeight ? Math.max(4, pointer.clientY - height - 12) : below}px`;
}

document.addEventListener(
  "click",
  (click) => {
    clicked = click;
    tip.hidden = true;
  },
  true,
);

// -- what all pages have -------------------------------------------------------------------------------------

/** Have some buttons of which one is pressed. */
function choices(place, pressed, attribute, act) {
  for (const button of place.children) {
    button.setAttribute("aria-pressed", String(button.dataset[attribute] === pressed));
    button.onclick = () => {
      for (const other of place.children) other.setAttribute("aria-pressed", String(other === button));
      act(button.dataset[attribute]);
    };
  }
}

function listenToZoom(views) {
  const act = (button, zoom) => {
    byId(button).onclick = () => {
      for (const { diagram } of views) zoom(diagram);
    };
  };
  act("in", (diagram) => diagram.zoomBy(1.6));
  act("out", (diagram) => diagram.zoomBy(1 / 1.6));
  act("fit", (diagram) => diagram.fit());
  for (const { diagram } of views) {
    diagram.scroller.addEventListener(
      "wheel",
      (wheel) => {
        if (!wheel.ctrlKey && !wheel.metaKey) return;
        wheel.preventDefault();
        const top = diagram.canvas.node().getBoundingClientRect().top;
        diagram.zoomBy(Math.exp(-wheel.deltaY / 400), wheel.clientY - top - diagram.scroller.scrollTop);
      },
      { passive: false },
    );
  }
}

/** The keys work whatever has the focus, unless it is a field for text. */
function listenToKeys(view, onescape) {
  document.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.metaKey || press.altKey) return;
    const { target, key } = press;
    if (key === "Escape") onescape();
    if (target.closest("input:not([type=range]):not([type=checkbox])")) return;
    if (key === " " && target.closest("button, summary, input")) return;
    if (key in STEPS) view.step(STEPS[key]);
    else if (key === "n" || key === "p") view.stepLine(key === "n" ? 1 : -1);
    else if (key === "Home" || key === "End") view.stepToEnd(key === "End");
    else if (key === " ") view.toggle();
    else return;
    if (key !== " ") view.pause();
    press.preventDefault();
  });
}

/** Fill the sheet that is printed. */
function listenToPrinter(views, script) {
  const fill = () => {
    if (byId("paper").childElementCount) return;
    byId("paper").replaceChildren(...views.map(({ diagram }) => sheet(diagram)));
    script.printing = true;
    script.draw();
  };
  const empty = () => {
    byId("paper").replaceChildren();
    script.printing = false;
    script.draw();
  };
  addEventListener("beforeprint", fill);
  addEventListener("afterprint", empty);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? fill() : empty()));
}

function save(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  element("a", { href: url, download: "diagram.svg" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// -- filters -------------------------------------------------------------------------------------------------

function fillFilters(run, view, charts) {
  const { layout } = view.diagram;
  byId("keys").append(...run.keys.slice(0, MOST_KEYS).map((key) => element("option", { value: key })));
  byId("key").addEventListener("input", ({ target }) => {
    const known = run.keys.includes(target.value);
    byId("no-key").hidden = known || !target.value;
    layout.key = known ? target.value : "";
    view.stores.key = layout.key;
    view.refilter();
  });
  byId("kinds").append(
    ...Object.entries(KINDS).map(([kind, [name, , title]]) =>
      element(
        "button",
        {
          "data-kind": kind,
          "aria-pressed": String(layout.shown[kind]),
          title,
          onclick: ({ currentTarget }) => {
            layout.shown[kind] = !layout.shown[kind];
            currentTarget.setAttribute("aria-pressed", String(layout.shown[kind]));
            view.refilter();
          },
        },
        name,
      ),
    ),
  );
  const apply = () => {
    layout.hidden = new Set(boxes.flatMap((box, process) => (box.checked ? [] : [process])));
    view.stores.hidden = layout.hidden;
    const some = layout.hidden.size ? ` (${boxes.length - layout.hidden.size} of ${boxes.length} processes)` : "";
    byId("menu").firstElementChild.textContent = `show${some}`;
    view.refilter();
  };
  const boxes = run.processes.map((name) =>
    element("input", { type: "checkbox", checked: "", "data-process": name, onchange: apply }),
  );
  const all = (checked) => () => {
    for (const box of boxes) box.checked = checked;
    apply();
  };
  byId("processes").append(
    element(
      "p",
      {},
      element("button", { onclick: all(true) }, "all"),
      element("button", { onclick: all(false) }, "none"),
    ),
    ...run.processes.map((name, process) => element("label", {}, boxes[process], ` ${name}`)),
  );
  byId("charts-box").addEventListener("toggle", () => charts.draw());
}

function closeMenus() {
  const open = [...document.querySelectorAll("nav details[open]")];
  for (const menu of open) menu.open = false;
  return open.length > 0;
}

// -- one run -------------------------------------------------------------------------------------------------

const isQuiz = () => document.body.classList.contains("quiz");

function startQuiz(run, view, script) {
  const { diagram } = view;
  document.body.classList.add("quiz");
  const hide = (limit, from) => {
    diagram.limit = limit;
    diagram.hiddenFrom = from;
    script.hide((line) => line.event > limit || (run.events[line.event].operation ?? -1) >= from);
  };
  const leave = () => {
    hide(Infinity, Infinity);
    document.body.classList.remove("quiz");
    history.replaceState(null, "", location.pathname + location.hash);
    view.choose(run.opening ?? 0);
  };
  const showUpTo = (number, answered) => {
    const { command, event } = run.operations[number];
    hide(answered ? event : command, answered ? number + 1 : number);
    view.choose(answered ? event : command);
  };
  new Quiz(run, byId("details"), { showUpTo, leave }).ask();
}

function single(run) {
  byId("centre").hidden = false;
  const view = new View(run, byId("centre"));
  const { diagram } = view;
  const details = new Details(run, byId("details"), (number) => view.choose(number));
  const charts = new Charts(run, byId("charts"), (time) => view.chooseMark(diagram.layout.nearest(time)), showTip);
  const script = new Script(run, byId("lines"), (line) => view.choose(run.eventOf(line)), otherAnswers(run));
  const field = { field: byId("search"), said: byId("finds"), back: byId("find-back"), forth: byId("find-forth") };
  const search = new Search(
    run,
    field,
    diagram.layout,
    (number) => view.choose(number),
    () => diagram.selected,
  );
  diagram.onhover = showTip;
  view.onchoose = (number) => {
    if (!isQuiz()) {
      if (number === null) details.welcome();
      else details.show(number);
    }
    if (number !== null) script.show(run.lineAt(number));
    search.tell();
    writePlace(diagram);
  };
  view.onmoment = (number) => charts.mark(run.events[number].time);
  const layOut = diagram.onlayout;
  diagram.onlayout = () => {
    layOut();
    search.search();
    writePlace(diagram);
  };
  byId("summary").textContent = summary(run);
  showVerdict(run, byId("verdict"), (number) => view.choose(number));
  fillFilters(run, view, charts);
  const place = readPlace();
  Object.assign(diagram.layout, { axis: place.axis ?? "order", view: place.view ?? "diagram", zoom: place.zoom ?? 1 });
  choices(byId("axis"), diagram.layout.axis, "axis", (axis) => diagram.showAxis(axis));
  choices(byId("views"), diagram.layout.view, "view", (which) => diagram.showView(which));
  listenToZoom([view]);
  listenToKeys(view, () => {
    if (!closeMenus() && !isQuiz()) view.unchoose();
  });
  listenToPrinter([view], script);
  byId("next-dependency").disabled = !run.missed.length;
  byId("next-dependency").onclick = () =>
    view.choose(run.missed[d3.bisectRight(run.missed, diagram.selected ?? -1)] ?? run.missed[0]);
  byId("save").onclick = () => save(picture(diagram));
  const begin = () => startQuiz(run, view, script);
  byId("predict").onclick = begin;
  byId("predict").disabled = !run.operations.some(isQuestion);
  if (place.key !== undefined) {
    byId("key").value = place.key;
    byId("key").dispatchEvent(new Event("input"));
  }
  diagram.layOut();
  if (new URLSearchParams(location.search).has("quiz") && !byId("predict").disabled) begin();
  else if (run.events[place.at ?? run.opening])
    view.choose(place.at ?? run.opening, { near: place.zoom === undefined });
  else {
    details.welcome();
    view.lookAt(diagram.lastInSight());
  }
  // For whoever tries things out in the browser's console; the tests do.
  Object.assign(globalThis, { run, view, diagram, layout: diagram.layout, script });
}

// -- two runs ------------------------------------------------------------------------------------------------

function double(runs) {
  document.body.classList.add("two");
  const { views, script, open } = compare(runs, showTip);
  const diagrams = views.map(({ diagram }) => diagram);
  choices(byId("axis"), "order", "axis", (axis) => {
    for (const diagram of diagrams) diagram.showAxis(axis);
  });
  choices(byId("views"), "diagram", "view", (which) => {
    for (const diagram of diagrams) diagram.showView(which);
  });
  listenToZoom(views);
  listenToKeys(views[0], closeMenus);
  listenToPrinter(views, script);
  for (const diagram of diagrams) diagram.layOut();
  open();
  Object.assign(globalThis, { runs, views, script });
}

async function main() {
  const texts = [...document.querySelectorAll("script.run")];
  const runs = (await Promise.all(texts.map(({ textContent }) => unpack(textContent)))).map((story) => new Run(story));
  for (const text of texts) text.remove();
  document.addEventListener("click", ({ target }) => {
    if (!target.closest("nav details")) closeMenus();
  });
  byId("legend").append(legend());
  if (runs.length === 2) double(runs);
  else single(runs[0]);
  document.documentElement.dataset.ready = "";
  performance.mark("ready");
}

main().catch((error) => {
  byId("summary").textContent = `This page can't be shown in this browser: ${error.message}`;
  throw error;
});
