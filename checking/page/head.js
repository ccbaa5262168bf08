// What stands above the picture: what ran, what the checker says of it, and what else the script could have printed.

import { count, duration, element, lineOf } from "./dom.js";

const MOST_LINES = 8; // of a verdict or of outcomes

const WORDS = {
  valid: ["✓ valid", "The checker finds every answer of this run as the contract promises."],
  invalid: ["✗ invalid", "The checker finds that this run broke a promise."],
  unknown: ["? unknown", "The checker could not decide whether this run kept every promise."],
};

/** Returns what ran, in one line. */
export function summary(run) {
  const processes = (kind) => run.kindOf.filter((one) => one === kind).length;
  return [
    count(processes("server"), "server"),
    count(processes("client"), "client"),
    count(run.operations.length, "put or get", "puts and gets"),
    ...(run.missed.length ? [`${run.missed.length} × ERR_DEP`] : []),
    count(run.events.length, "event"),
    duration(run.length),
    `Daadkvs ${run.version}`,
  ].join(" · ");
}

/** Fill the place of the verdict. *choose*: goes to an event. */
export function showVerdict(run, place, choose) {
  const parts = [];
  const { verdict, outcomes } = run;
  if (verdict) {
    const [word, sentence] = WORDS[verdict.verdict];
    parts.push(
      element(
        "p",
        { class: `verdict ${verdict.verdict}` },
        element("strong", { title: sentence }, word),
        ` ${saidOf(verdict)}`,
      ),
    );
    if (verdict.lines.length)
      parts.push(
        element(
          "ul",
          {},
          verdict.lines.slice(0, MOST_LINES).map((line) => item(line, choose)),
        ),
      );
  } else {
    parts.push(
      element(
        "p",
        {
          class: "verdict none",
          title: "scripts/report.py --history FILE, with what ./master.py --history FILE has written",
        },
        "not checked",
      ),
    );
  }
  if (outcomes) {
    const heading = outcomes.heading.replace(/^It /, "The script ");
    const lines = outcomes.lines.slice(0, MOST_LINES).map((line) => item(line, choose));
    const more = outcomes.lines.length > MOST_LINES ? [element("li", {}, "and more: see the script")] : [];
    const folded = element("details", {}, element("summary", {}, heading), element("ul", {}, lines, more));
    parts.push(lines.length ? folded : element("p", {}, heading));
  }
  place.replaceChildren(...parts);
}

function saidOf({ verdict, why, operations }) {
  return verdict === "valid" ? count(operations, "operation") : why;
}

function item({ event, where, text }, choose) {
  if (event === null) return element("li", {}, text);
  return element(
    "li",
    {},
    element("button", { class: "link", onclick: () => choose(event) }, lineOf(where) || "there"),
    `: ${text}`,
  );
}

/** Returns, for each place in the script, what the line could print. */
export function otherAnswers(run) {
  return new Map((run.outcomes?.lines ?? []).map(({ where, text }) => [where, text]));
}
