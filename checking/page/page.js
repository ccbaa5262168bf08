"use strict";
// Brings the parts of the page together: filters, keys, the tip, and what was chosen.

const byId = (id) => document.getElementById(id);
const diagram = new Diagram(byId("diagram"), byId("heads"), byId("canvas"));
const details = new Details(byId("details"), choose);
const stores = new Stores(byId("table"), choose);
const charts = new Charts(byId("charts"), (time) => chooseMark(diagram.nearest(time)), showTip);
let moment = 0; // the event at which the run is looked at: the chosen one, or else the last one in sight

/** Choose an event: every part of the page then shows it. */
function choose(number) {
  const event = run.events[number];
  diagram.selected = number;
  const operation = run.operations[event.operation] ?? null;
  const seen = operation !== null && operation.outcome === "ERR_DEP" ? operation.seen : null;
  const followed = operation === null ? event.writes.slice(0, 50) : [operation.put ? operation.write : seen ?? operation.write];
  diagram.followed = new Set(followed.filter((write) => write !== null));
  details.show(number);
  diagram.goTo(number);
  lookAt(number);
}

/** Choose an event, if there is one. */
function chooseMark(number) {
  if (number !== undefined) choose(number);
}

/** Choose no event. */
function unchoose() {
  diagram.selected = null;
  diagram.followed = new Set();
  diagram.draw();
  details.welcome();
  lookAround();
}

/** The filters have changed: draw what they let through, and choose nothing if the chosen event is hidden now. */
function refilter() {
  diagram.layOut();
  if (diagram.selected !== null && !diagram.marks.includes(diagram.selected)) unchoose();
  lookAt(moment);
}

/** Look at a moment: show the stores then, and mark it in the plots. The slider goes over the events that are drawn. */
function lookAt(number) {
  if (number === undefined || !run.events.length) return;
  moment = number;
  byId("slider").max = Math.max(0, diagram.marks.length - 1);
  byId("slider").value = diagram.positionOf(number);
  stores.show(number);
  charts.mark(run.events[number].time);
  byId("moment").textContent = `at ${run.duration(run.events[number].time)}${diagram.selected === null ? ", the last event in sight" : ""}`;
}

/** If no event is chosen, look at the last event in sight. */
function lookAround() {
  const number = diagram.lastInSight();
  if (diagram.selected === null && number !== moment) lookAt(number);
}

function step(by) {
  const marks = diagram.marks;
  chooseMark(by > 0 ? marks[d3.bisectRight(marks, moment)] : marks[d3.bisectLeft(marks, moment) - 1]);
}

function showTip(pointer, lines = []) {
  const tip = byId("tip");
  tip.hidden = pointer === null;
  if (pointer === null) return;
  const [heading, ...rest] = lines;
  tip.replaceChildren(element("b", {}, heading), ...rest.map((line) => element("small", {}, line)));
  const {offsetWidth: width, offsetHeight: height} = tip;
  tip.style.left = `${Math.max(4, Math.min(pointer.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${pointer.clientY + 18 + height > innerHeight ? Math.max(4, pointer.clientY - height - 10) : pointer.clientY + 18}px`;
}

function summarize() {
  const missed = run.operations.filter(({outcome}) => outcome === "ERR_DEP").length;
  const count = (kind) => run.kindOf.filter((one) => one === kind).length;
  byId("summary").textContent = [
    run.count(count("server"), "server"), run.count(count("client"), "client"), run.count(run.operations.length, "put or get", "puts and gets"),
    ...(missed ? [`${missed} × ERR_DEP`] : []), run.count(run.events.length, "event"), run.duration(run.length), `Daadkvs ${run.version}`,
  ].join(" · ");
}

function fillFilters() {
  byId("keys").append(...run.keys.slice(0, 2000).map((key) => element("option", {value: key})));
  byId("kinds").append(...Object.entries(KINDS).map(([kind, [name, , title]]) => element("button", {
    "data-kind": kind, "aria-pressed": String(diagram.shown[kind]), title,
    onclick: ({currentTarget}) => {
      diagram.shown[kind] = !diagram.shown[kind];
      currentTarget.setAttribute("aria-pressed", String(diagram.shown[kind]));
      refilter();
    },
  }, name)));
  const boxes = run.processes.map((name, process) => element("input", {type: "checkbox", checked: "", "data-process": name, onchange: applyProcesses}));
  const all = (checked) => () => {
    boxes.forEach((box) => { box.checked = checked; });
    applyProcesses();
  };
  byId("processes").lastElementChild.append(
    element("p", {}, element("button", {onclick: all(true)}, "all"), element("button", {onclick: all(false)}, "none")),
    ...run.processes.map((name, process) => element("label", {}, boxes[process], ` ${name}`)),
  );
  function applyProcesses() {
    diagram.hidden = new Set(boxes.flatMap((box, process) => (box.checked ? [] : [process])));
    stores.hidden = diagram.hidden;
    byId("processes").firstElementChild.textContent = diagram.hidden.size ? `processes (${boxes.length - diagram.hidden.size} of ${boxes.length})` : "processes";
    refilter();
  }
}

function listen() {
  byId("key").addEventListener("input", ({target}) => {
    const known = run.keys.includes(target.value);
    byId("no-key").hidden = known || !target.value;
    diagram.key = stores.key = known ? target.value : "";
    refilter();
  });
  for (const button of byId("axis").children) {
    button.addEventListener("click", () => {
      for (const other of byId("axis").children) other.setAttribute("aria-pressed", String(other === button));
      diagram.show(button.dataset.axis);
    });
  }
  byId("in").addEventListener("click", () => diagram.zoomBy(1.6));
  byId("out").addEventListener("click", () => diagram.zoomBy(1 / 1.6));
  byId("fit").addEventListener("click", () => diagram.fit());
  byId("diagram").addEventListener("wheel", (wheel) => {
    if (!wheel.ctrlKey && !wheel.metaKey) return;
    wheel.preventDefault();
    diagram.zoomBy(Math.exp(-wheel.deltaY / 400), wheel.clientY - byId("canvas").getBoundingClientRect().top - byId("diagram").scrollTop);
  }, {passive: false});
  const missed = run.operations.filter(({outcome, event}) => outcome === "ERR_DEP" && event !== null).map(({event}) => event).sort(d3.ascending);
  byId("next-dependency").disabled = !missed.length;
  byId("next-dependency").addEventListener("click", () => choose(missed[d3.bisectRight(missed, diagram.selected ?? -1)] ?? missed[0]));
  byId("save").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([diagram.picture()], {type: "image/svg+xml"}));
    element("a", {href: url, download: "diagram.svg"}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  byId("slider").addEventListener("input", ({target}) => {
    const number = diagram.marks[Number(target.value)];
    if (number === undefined) return;
    diagram.selected = number;
    diagram.followed = new Set();
    details.show(number);
    diagram.goTo(number);
    lookAt(number);
  });
  byId("back").addEventListener("click", () => step(-1));
  byId("forth").addEventListener("click", () => step(1));
  byId("diagram").addEventListener("keydown", (press) => {
    const by = {ArrowDown: 1, ArrowRight: 1, j: 1, ArrowUp: -1, ArrowLeft: -1, k: -1}[press.key];
    if (by === undefined) return;
    press.preventDefault();
    step(by);
  });
  const menu = byId("processes");
  document.addEventListener("keydown", ({key}) => {
    if (key !== "Escape") return;
    if (menu.open) menu.open = false;
    else unchoose();
  });
  document.addEventListener("click", ({target}) => {
    if (!menu.contains(target)) menu.open = false;
  });
}

diagram.onselect = choose;
diagram.onhover = showTip;
summarize();
fillFilters();
listen();
details.welcome();
charts.draw();
diagram.layOut();
lookAt(diagram.lastInSight());
diagram.onsight = lookAround;
