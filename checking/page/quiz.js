// Predict first: the reader says what a get will print before the page does, and counts how often that was right.

import { element } from "./dom.js";
import { shorten } from "./texts.js";

const MOST_QUESTIONS = 10;
const MOST_VALUES = 5; // that are offered for an answer

/** Whether an operation is a get that printed something, so that it can be asked about. */
export function isQuestion({ put, outcome, event, command }) {
  return !put && event !== null && command !== null && ["value", "ERR_KEY", "ERR_DEP"].includes(outcome);
}

/** Returns the gets to ask about, as numbers of operations: the first ones that can be got wrong. */
export function questionsOf(run) {
  const gets = d3.range(run.operations.length).filter((number) => isQuestion(run.operations[number]));
  const open = [];
  for (const number of gets) {
    if (open.length === MOST_QUESTIONS) break;
    if (run.operations[number].outcome !== "value" || valuesOf(run, number).length > 1) open.push(number);
  }
  return open.length ? open : gets.slice(0, MOST_QUESTIONS);
}

/** Returns the values that had been put under the key of a get before it; the newest of them, if they are many. */
function valuesOf(run, number) {
  const { key, event } = run.operations[number];
  const before = run.writes.filter((write) => {
    if (write.key !== key) return false;
    return write.operation === null ? (write.arrivals[0]?.event ?? 0) < event : write.operation < number;
  });
  const values = [...new Set(d3.sort(before, (write) => write.timestamp).map(({ value }) => value))];
  const read = run.operations[number].outcome === "value" ? [run.operations[number].value] : [];
  return [...new Set([...values.slice(-MOST_VALUES), ...read])].sort();
}

export function answerOf({ outcome, value }) {
  return outcome === "value" ? value : outcome;
}

export class Quiz {
  /** *page*: {showUpTo(operation, answered), leave()}. */
  constructor(run, place, page) {
    Object.assign(this, { run, place, page });
    this.questions = questionsOf(run);
    this.asked = 0;
    this.right = 0;
  }

  /** Ask the next question; to be called for the first one. */
  ask() {
    const number = this.questions[this.asked];
    this.position = this.asked + 1;
    const { key, client, where } = this.run.operations[number];
    this.page.showUpTo(number, false);
    const choices = [...valuesOf(this.run, number), "ERR_KEY", "ERR_DEP"];
    const buttons = choices.map((choice) =>
      element("button", { onclick: () => this.judge(choice) }, shorten(choice, 60)),
    );
    this.show(
      element("p", { class: "big" }, `What will get ${key} print?`),
      element(
        "p",
        {},
        `${this.run.processes[client]} asks${where ? `, in ${where}` : ""}. The stores and the diagram show what has happened until then.`,
      ),
      element("div", { class: "choices", role: "group", "aria-label": "your prediction" }, buttons),
    );
  }

  judge(choice) {
    const operation = this.run.operations[this.questions[this.asked]];
    const answer = answerOf(operation);
    const isRight = choice === answer;
    if (isRight) this.right++;
    this.page.showUpTo(this.questions[this.asked], true);
    this.asked++;
    const goes = this.asked < this.questions.length;
    const next = goes
      ? element("button", { onclick: () => this.ask() }, "next question")
      : element("button", { onclick: () => this.end() }, "your score");
    this.show(
      element(
        "p",
        { class: isRight ? "big right" : "big wrong" },
        isRight ? `Right: ${answer}` : `No: it printed ${answer}`,
      ),
      isRight ? null : element("p", {}, `You had said ${choice}.`),
      element(
        "div",
        { class: operation.outcome === "ERR_DEP" ? "why dependency" : "why" },
        operation.why.map((sentence) => element("p", {}, sentence)),
      ),
      element("p", {}, next),
    );
    next.focus();
  }

  end() {
    const again = element("button", { onclick: () => this.page.leave() }, "show the whole run");
    this.show(
      element("p", { class: "big" }, `You foresaw ${this.right} of ${this.questions.length}.`),
      element(
        "p",
        {},
        this.right === this.questions.length
          ? "All of them."
          : "The reasons of the others are in the run: look at their lines once more.",
      ),
      element("p", {}, again),
    );
    again.focus();
  }

  show(...parts) {
    const position = `Question ${this.position} of ${this.questions.length} · ${this.right} right so far`;
    this.place.replaceChildren(
      element("h2", {}, "Predict first"),
      element("p", { class: "place" }, position),
      ...parts.filter(Boolean),
    );
    this.place.scrollTop = 0;
  }
}
