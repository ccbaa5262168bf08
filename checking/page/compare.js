// Two runs side by side: their scripts as one, their diagrams beside each other, and where they begin to differ.

import { byId, count, element } from "./dom.js";
import { Script } from "./script.js";
import { View } from "./view.js";

const NAMES = ["A", "B"];

/** The lines of both runs, with the answers of each where they differ. */
class Pairs extends Script {
  below(line) {
    const [one, other] = line.pair.map((side) => (side === null ? "did not run" : toldOf(side)));
    const differs = line.pair[0] && line.pair[1] && line.pair[0].text !== line.pair[1].text;
    const instead = differs ? [["answer differs", `B: ${line.pair[1].text}`]] : [];
    if (one === other) return [...instead, ...(one === "nothing" ? [] : [["answer", one]])];
    const answers = [one, other].map((text, side) => ["answer differs", `${NAMES[side]}: ${text}`]);
    return [answers[0], ...instead, answers[1]];
  }
}

/** Returns what a line printed, or its error, in one row. */
function toldOf({ answer, error }) {
  const told = [answer, error && `error: ${error}`].filter(Boolean).join("\n");
  return told.replaceAll("\n", " ⏎ ") || "nothing";
}

/** Returns the lines of both scripts as if they were one. */
function pairedLines(runs) {
  return runs[0].differences.pairs.map((numbers, number) => {
    const pair = numbers.map((one, side) => (one === null ? null : runs[side].lines[one]));
    return { ...(pair[0] ?? pair[1]), number, pair };
  });
}

/** Fill the page with two runs. Returns their views. */
export function compare(runs, hover) {
  const { differences } = runs[0];
  const lines = pairedLines(runs);
  const views = runs.map((run, side) => {
    const place = element("div", { class: "centre" }, element("h2", { class: "name" }, `${NAMES[side]}: ${run.name}`));
    byId("main").append(place);
    return new View(run, place, side ? "-b" : "");
  });
  const script = new Pairs({ lines }, byId("lines"), (line) => go(line));
  script.mark(differences.differing);
  let going = false;
  function go(line) {
    going = true;
    line.pair.forEach((side, index) => {
      if (side) views[index].choose(runs[index].eventOf(side));
    });
    going = false;
    script.show(line);
  }
  views.forEach((view, side) => {
    view.diagram.onhover = hover;
    view.onchoose = (number) => {
      if (number === null || going) return;
      const own = runs[side].lineAt(number);
      const line = lines.find(({ pair }) => pair[side] === own) ?? null;
      script.show(line);
      const there = line?.pair[1 - side];
      if (!there) return;
      going = true;
      views[1 - side].choose(runs[1 - side].eventOf(there));
      going = false;
    };
  });
  tell(byId("verdict"), differences, lines, go);
  byId("summary").textContent =
    `${count(lines.length, "line")}; ${count(differences.differing.length, "line differs", "lines differ")}`;
  const begin = d3.min([differences.first, differences.stores].filter(Boolean), ([position]) => position);
  return {
    views,
    script,
    open: () => (begin === undefined ? views[0].chooseMark(runs[0].opening ?? undefined) : go(lines[begin])),
  };
}

function tell(place, { first, stores }, lines, go) {
  const said = [stores, first]
    .filter(Boolean)
    .map(([position, sentence]) =>
      element(
        "li",
        {},
        element("button", { class: "link", onclick: () => go(lines[position]) }, "show"),
        ` ${sentence}`,
      ),
    );
  if (!said.length)
    said.push(element("li", {}, "Both runs printed the same, and after each line their servers held the same."));
  place.replaceChildren(
    element(
      "p",
      { class: "verdict" },
      element("strong", {}, first || stores ? "Where they begin to differ" : "No difference"),
    ),
    element("ul", {}, said),
  );
}
