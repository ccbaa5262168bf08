// The script as it ran: its lines with their numbers and what they printed. Only what is in sight is in the document.

import { element, lineOf } from "./dom.js";
import { PLAIN, pixels } from "./texts.js";

const ROW = 20; // pixels
const BETWEEN = 4; // pixels between two lines: a finger has to hit them
const MOST_ROWS = 7; // of what a line printed
const AROUND = 12; // lines beyond what is in sight
const BESIDE = 62; // pixels that the number of a line takes, with the room around it
const MOST_PRINTED = 400; // lines that are all in the document when the page is printed

export class Script {
  /** *others*: for each place in the script, what the line could print as well. */
  constructor(run, place, choose, others = new Map()) {
    this.run = run;
    this.place = place;
    this.choose = choose;
    this.others = others;
    this.current = null;
    this.marked = new Set(); // positions of lines that stand out
    this.isHidden = () => false; // whether what a line printed must not be seen yet
    this.list = element("ol");
    place.append(this.list);
    place.addEventListener("scroll", () => this.draw(), { passive: true });
    this.measure();
    new ResizeObserver(() => {
      this.measure();
      if (this.current) this.show(this.current);
    }).observe(place);
  }

  /** Give every line its place. To be called when what is said below the lines has changed. */
  measure() {
    let y = 0;
    let command = null; // the one before a line
    this.tops = this.run.lines.map((line) => {
      const top = y;
      line.givesAway = isAnswer(line) && command !== null && this.isHidden(command);
      if (!isComment(line)) command = line;
      line.rows = isComment(line)
        ? this.wrapped(line.givesAway ? "Answer: …" : line.text)
        : [["text", line.text || "(no command)"], ...this.below(line)];
      y += ROW * line.rows.length + BETWEEN;
      return top;
    });
    this.height = y;
    this.list.style.height = `${y}px`;
    this.drawn = "";
    this.draw();
  }

  /** Returns the rows of a comment. */
  wrapped(text) {
    const room = Math.max(80, this.place.clientWidth - BESIDE);
    const rows = [];
    for (const word of text.replace(/^#+\s*/, "").split(" ")) {
      const longer = rows.length ? `${rows.at(-1)} ${word}` : word;
      if (rows.length && pixels(longer, PLAIN) <= room) rows[rows.length - 1] = longer;
      else rows.push(word);
    }
    return rows.map((row) => ["comment", row]);
  }

  /** Returns what stands below a line: [class, text] for each row. */
  below(line) {
    if (this.isHidden(line)) return line.answer ? [["answer", "?"]] : [];
    const printed = line.answer ? line.answer.split("\n") : [];
    const rows = printed
      .slice(0, MOST_ROWS)
      .map((text) => [text.endsWith(":ERR_DEP") ? "answer dependency" : "answer", text]);
    if (printed.length > MOST_ROWS) rows.push(["answer", `… and ${printed.length - MOST_ROWS} more`]);
    if (line.error) rows.push(["error", `error: ${line.error}`]);
    const other = this.others.get(lineOf(line.where));
    if (other) rows.push(["other", `can print: ${other}`]);
    return rows;
  }

  draw() {
    const { run, tops, place } = this;
    const printing = this.printing && run.lines.length <= MOST_PRINTED;
    const [top, bottom] = printing ? [0, this.height] : [place.scrollTop, place.scrollTop + place.clientHeight];
    const from = Math.max(0, d3.bisectRight(tops, top) - 1 - AROUND);
    const to = Math.min(run.lines.length, d3.bisectRight(tops, bottom) + AROUND);
    const drawn = [from, to, this.current?.number].join();
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.list.replaceChildren(...run.lines.slice(from, to).map((line) => this.item(line)));
  }

  item(line) {
    const classes = [line === this.current ? "current" : "", this.marked.has(line.number) ? "marked" : ""]
      .join(" ")
      .trim();
    const number = lineOf(line.where).replace("line ", "");
    const inside = [
      element("span", { class: "number" }, number || "·"),
      ...line.rows.map(([name, text]) => element("span", { class: name }, text)),
    ];
    const style = `top: ${this.tops[line.number]}px`;
    const attributes = { class: "line", title: [line.text, line.answer, line.error].filter(Boolean).join("\n") };
    if (this.isHidden(line)) attributes.title = line.text;
    if (line.givesAway) attributes.title = "";
    if (isComment(line)) return element("li", { style, class: classes || null }, element("div", attributes, inside));
    const current = line === this.current ? "step" : null;
    const onclick = () => this.choose(line);
    return element(
      "li",
      { style, class: classes || null },
      // Tab goes to the current line alone; the keys n and p go to the others.
      element("button", { ...attributes, tabindex: current ? 0 : -1, "aria-current": current, onclick }, inside),
    );
  }

  /** Show a line as the one that is looked at. */
  show(line) {
    const focused = this.list.contains(document.activeElement);
    this.current = line;
    if (line !== null) {
      const { scrollTop, clientHeight } = this.place;
      const [top, bottom] = [this.tops[line.number], this.tops[line.number] + ROW * line.rows.length];
      if (top < scrollTop + ROW || bottom > scrollTop + clientHeight - ROW) {
        this.place.scrollTop = top - clientHeight / 2;
      }
    }
    this.draw();
    if (focused) this.list.querySelector("[aria-current]")?.focus({ preventScroll: true });
  }

  /** Hide what some lines have printed. */
  hide(isHidden) {
    this.isHidden = isHidden;
    this.measure();
  }

  mark(positions) {
    this.marked = new Set(positions);
    this.measure();
  }
}

function isComment({ text }) {
  return text.startsWith("#");
}

/** Whether a comment answers a question about the command before it, as those of the lessons do. */
function isAnswer({ text }) {
  return text.startsWith("# Answer:");
}
