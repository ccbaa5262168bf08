// What is known about the chosen event: why, where else it can be seen, which way its write took.

import { count, duration, element, joined, lineOf } from "./dom.js";
import { sayClock, sayMessage, shorten, unbroken } from "./texts.js";

const MOST_LEARNT = 100;
const MOST_READS = 12;
const MOST_MESSAGES = 10;

export class Details {
  constructor(run, place, choose) {
    this.run = run;
    this.place = place;
    this.choose = choose;
  }

  /** Returns a link to an event. */
  link(number, text) {
    return element("button", { class: "link", onclick: () => this.choose(number) }, text);
  }

  /** Returns a sentence in which each line of the script that it names is a link. */
  linked(sentence) {
    if (this.run.scripts.length > 1) return [sentence];
    return sentence.split(/\b(line \d+)\b/).map((part, index) => {
      const line = index % 2 ? this.run.ran.find(({ where }) => lineOf(where) === part) : undefined;
      return line === undefined ? part : this.link(this.run.eventOf(line), part);
    });
  }

  welcome() {
    const missed = this.run.missed;
    const paragraphs = [
      "Each line of the diagram is a process, time runs downwards, and an arrow is a call or, dashed, its answer; one that ends in a cross was lost. While servers are partitioned, each partition has a colour.",
      "Choose a line of the script, a mark of the diagram or a value in the stores: the other parts show what belongs to it. The arrow keys go from event to event, n and p from line to line, and the space bar plays the run.",
      "A put can be followed to every server that it reached. Of an ERR_DEP you see why: what the session had seen, and what the server had.",
    ];
    const first = missed.length
      ? element(
          "p",
          {},
          `${count(missed.length, "get")} ended in ERR_DEP; `,
          this.link(missed[0], "the first one"),
          ".",
        )
      : null;
    this.place.replaceChildren(
      ...[element("h2", {}, "What this shows"), ...paragraphs.map((text) => element("p", {}, text)), first].filter(
        Boolean,
      ),
    );
  }

  /** Show all that is known about an event. */
  show(number) {
    const { run } = this;
    const event = run.events[number];
    const operation = event.operation === null ? null : run.operations[event.operation];
    const where = event.where || operation?.where;
    const heading = element("p", { class: "big" }, event.text || event.kind);
    const line = where && run.scripts.length < 2 ? lineOf(where) : where;
    const place = [run.processes[event.process], line].filter(Boolean).join(" · ");
    const parts = [heading, element("p", { class: "place" }, place)];
    if (event.printed) parts.push(element("pre", { tabindex: 0, "aria-label": "printed" }, event.printed));
    if (operation) {
      if (operation.why.length) {
        const missed = operation.outcome === "ERR_DEP";
        const reasons = operation.why.map((sentence) => element("p", {}, this.linked(sentence)));
        parts.push(element("h2", {}, "Why"), element("div", { class: missed ? "why dependency" : "why" }, reasons));
      }
      parts.push(this.places(operation, number));
    }
    if (event.kind === "learnt") {
      const learnt = event.writes.slice(0, MOST_LEARNT).map((write) => element("li", {}, this.writeLink(write)));
      if (learnt.length > 1) parts.push(element("ul", {}, learnt));
    }
    for (const write of this.writesOf(event)) parts.push(...this.write(write));
    parts.push(this.raw(number, operation));
    this.place.replaceChildren(...parts);
    this.place.scrollTop = 0;
  }

  /** Returns the writes that an event is about, unless they are many. */
  writesOf(event) {
    if (event.writes.length > 1) return [];
    const of = event.operation === null ? null : this.run.operations[event.operation].write;
    return [...new Set([of, ...event.writes])].filter((write) => write !== null);
  }

  /** Returns links to the other events of an operation. */
  places(operation, here) {
    const { run } = this;
    const places = [];
    if (operation.command !== null) places.push([operation.command, "the command"]);
    for (const { event, server } of operation.asked) places.push([event, `at ${run.processes[server]}`]);
    if (operation.event !== null) places.push([operation.event, "the answer"]);
    const seen = operation.seen_by === null ? null : run.operations[operation.seen_by].event;
    if (seen !== null) places.push([seen, "what the session had seen"]);
    const links = places.filter(([event]) => event !== here).map(([event, text]) => this.link(event, text));
    return element("p", {}, joined(links, " · "));
  }

  writeLink(write) {
    const { key, value, arrivals } = this.run.writes[write];
    const text = `${key} = ${value}`;
    return arrivals.length ? this.link(arrivals[0].event, text) : text;
  }

  /** Describes a write: where it came from, and where it went. */
  write(number) {
    const { run } = this;
    const { key, value, arrivals, reads, concurrent } = run.writes[number];
    const way = arrivals.map(({ server, event, source, stood }) =>
      element(
        "li",
        {},
        this.link(event, run.processes[server]),
        source === null ? ", put there" : `, from ${run.processes[source]}`,
        stood ? "" : ", where a later one stands",
      ),
    );
    const facts = [];
    if (concurrent.length) {
      facts.push([
        "concurrent with",
        joined(
          concurrent.map((one) => this.writeLink(one)),
          ", ",
        ),
      ]);
    }
    if (reads.length) {
      const read = reads.slice(0, MOST_READS).filter((one) => run.operations[one].event !== null);
      const links = read.map((one) => this.link(run.operations[one].event, run.processes[run.operations[one].client]));
      facts.push(["read by", joined(links, ", ")]);
    }
    return [
      element("h2", {}, `Where ${key} = ${shorten(value, 60)} went`),
      arrivals.length
        ? element("ol", { class: "way" }, way)
        : element("p", {}, "It was on a disk already, from an earlier run."),
      ...(facts.length ? [list(facts)] : []),
    ];
  }

  /** Returns what only somebody who takes the protocol apart wants to know: times, clocks and messages. */
  raw(number, operation) {
    const { run } = this;
    const event = run.events[number];
    const facts = [["time", duration(event.time)]];
    if (operation && operation.ended > operation.began)
      facts.push(["took", duration(operation.ended - operation.began)]);
    facts.push(["vector clock of the process", sayClock(run, number)]);
    for (const write of this.writesOf(event)) {
      const { key, dot, clock, timestamp } = run.writes[write];
      facts.push(
        [`dot of ${key}`, dot],
        ["its vector clock", clock.map(unbroken).join("; ")],
        ["its timestamp", String(timestamp)],
      );
    }
    const messages = this.messagesOf(event).map((message) => {
      const lines = sayMessage(run, message);
      return element("li", {}, [lines[0], lines.at(-1)].join(", "));
    });
    const inside = [list(facts), messages.length ? element("ul", { class: "messages" }, messages) : null];
    return element(
      "details",
      {
        class: "raw",
        open: this.isRawOpen,
        ontoggle: ({ target }) => {
          this.isRawOpen = target.open;
        },
      },
      element("summary", {}, "details: times, clocks, messages"),
      inside,
    );
  }

  /** Returns the messages that have to do with an event. */
  messagesOf(event) {
    const { run } = this;
    if (event.operation !== null) {
      return run.messages.filter(({ operations }) => operations.includes(event.operation)).slice(0, MOST_MESSAGES);
    }
    const brought = event.writes
      .flatMap((write) => run.writes[write].arrivals)
      .filter(({ event: at, message }) => at === event.number && message !== null);
    return [...new Set(brought.map(({ message }) => run.messages[message]))];
  }
}

function list(facts) {
  return element(
    "dl",
    {},
    facts.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}
