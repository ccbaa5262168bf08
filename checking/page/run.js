// A run: the story that checking/telling.py has told, and what is looked up in it often. Nothing here draws.

/** What can be shown: its name, whether it is shown at first, and its explanation. */
export const KINDS = {
  operations: ["puts and gets", true, "what clients ask and servers answer"],
  exchanges: ["exchanges", true, "messages that bring writes from one server to another"],
  links: ["links", true, "servers are linked, or cut from each other"],
  empty: ["empty exchanges", false, "messages between servers that bring nothing new"],
  calls: ["other calls", false, "calls from the master to servers and clients, and their answers"],
};

const ERRORS = ["refused", "uncertain", "unusable", "undone", "lost"];
const OWN_LOOK = ["command", "error", "warning", "learnt", "started", "killed"];

export class Run {
  constructor(story) {
    Object.assign(this, story);
    this.kindOf = this.processes.map((name) => name.split(" ")[0]);
    this.servers = d3.range(this.processes.length).filter((process) => this.kindOf[process] === "server");
    this.byProcess = this.processes.map(() => []);
    this.events.forEach((event, number) => {
      event.number = number;
      this.byProcess[event.process].push(number);
    });
    this.keys = [...new Set([...this.operations, ...this.writes].map(({ key }) => key))].sort();
    // The events at which a get ended in ERR_DEP.
    this.missed = this.operations
      .filter(({ outcome, event }) => outcome === "ERR_DEP" && event !== null)
      .map(({ event }) => event)
      .sort(d3.ascending);
    this.pairExchanges();
    this.colours = this.coloured();
    this.stores = { position: 0, last: -1, held: new Map() };
    this.lines.forEach((line, number) => {
      line.number = number;
    });
    this.ran = this.lines.filter(({ text }) => !text.startsWith("#"));
  }

  /** If an exchange has moved anything, both of its messages are shown. */
  pairExchanges() {
    const asked = new Map();
    this.messages.forEach((message, number) => {
      message.number = number;
      message.moves = false;
      if (message.name !== "pull") return;
      message.moves = message.writes.length > 0;
      const [from, to] = this.endsOf(message);
      if (!message.answer) asked.set(`${from} ${to}`, message);
      else if (message.moves && asked.has(`${to} ${from}`)) asked.get(`${to} ${from}`).moves = true;
    });
  }

  /** Returns the processes that a message goes from and to. */
  endsOf({ sent, received }) {
    return [this.events[sent].process, this.events[received].process];
  }

  /** Returns which of KINDS a message is. */
  kindOfMessage(message) {
    if (message.name === "execute" || message.name === "execute_group") return "operations";
    if (message.name === "pull") return message.moves ? "exchanges" : "empty";
    return "calls";
  }

  /** Returns which of KINDS a lost message is: that of those that arrive, though none moved anything. */
  kindOfLoss({ name }) {
    return name === "pull" ? "exchanges" : this.kindOfMessage({ name });
  }

  /** Returns the whole vector clock of an event, as pairs of the number of a process and its count. */
  clockAt(number) {
    const clock = new Map();
    for (const earlier of this.byProcess[this.events[number].process]) {
      if (earlier > number) break;
      const changed = this.events[earlier].clock;
      for (let index = 0; index < changed.length; index += 2) clock.set(changed[index], changed[index + 1]);
    }
    return [...clock].sort(([one], [other]) => one - other);
  }

  /** Returns the keys that an event or a message is about, if any. */
  keysOf({ operation, operations, writes }) {
    const about = operation === null || operation === undefined ? (operations ?? []) : [operation];
    return [...about.map((one) => this.operations[one].key), ...(writes ?? []).map((one) => this.writes[one].key)];
  }

  /** Returns what all servers hold once this event has happened: server -> key -> write. */
  storesAt(number) {
    const stores = this.stores;
    if (number < stores.last || stores.last < 0) {
      stores.position = 0;
      stores.held = new Map(this.servers.map((server) => [server, new Map()]));
    }
    stores.last = number;
    for (; stores.position < this.changes.length && this.changes[stores.position][0] <= number; stores.position++) {
      const [, server, key, write] = this.changes[stores.position];
      if (write === null) stores.held.get(server).delete(key);
      else stores.held.get(server).set(key, write);
    }
    return stores.held;
  }

  /** Returns the servers that run once this event has happened. */
  runningAt(number) {
    return new Set(
      this.lives
        .filter(({ began, ended }) => began <= number && (ended === null || ended > number))
        .map(({ process }) => process),
    );
  }

  /** The number of the colour of each partition in `partitions`. A partition that goes on keeps its colour. */
  coloured() {
    let before = [];
    return this.partitions.map(([, components]) => {
      const colours = new Array(components.length).fill(null);
      // The partition with the most servers in common goes on; among equals, the one that keeps its lowest server.
      const pairs = components.flatMap((servers, index) =>
        before
          .map(({ servers: earlier, colour }) => ({
            index,
            colour,
            common: servers.filter((server) => earlier.includes(server)).length,
            lowest: servers[0] === earlier[0],
          }))
          .filter(({ common }) => common),
      );
      for (const { index, colour } of d3.sort(
        pairs,
        (one, other) => other.common - one.common || other.lowest - one.lowest,
      )) {
        if (colours[index] === null && !colours.includes(colour)) colours[index] = colour;
      }
      for (const index of colours.keys()) {
        colours[index] ??= d3.range(components.length).find((colour) => !colours.includes(colour));
      }
      before = components.map((servers, index) => ({ servers, colour: colours[index] }));
      return colours;
    });
  }

  /** Returns the class of the mark of an event, which decides how it looks. */
  lookOf(event) {
    const { kind, operation, number } = event;
    if (kind === "operated" || kind === "executed") {
      const { put, outcome, asked } = this.operations[operation] ?? { put: event.writes.length > 0, asked: [] };
      const answer = kind === "operated" ? outcome : asked.find((one) => one.event === number)?.answer;
      if (answer === "ERR_DEP") return "dependency";
      if (answer === "ERR_KEY") return "missing";
      if (ERRORS.includes(outcome) && kind === "operated") return "error";
      return put ? "put" : "get";
    }
    return OWN_LOOK.includes(kind) ? kind : "other";
  }

  /** Returns the last line of the script that had begun when an event happened, or the line that the event is about. */
  lineAt(number) {
    const { operation } = this.events[number];
    const command = operation === null ? null : this.operations[operation].command;
    const upTo = command ?? number;
    const index = d3.bisector(({ event }) => event).right(this.ran, upTo) - 1;
    return this.ran[index] ?? null;
  }

  /** Returns the event that shows best what came of a line: the answer of its operation, or else the command. */
  eventOf(line) {
    const { operation } = this.events[line.event];
    return (operation === null ? null : this.operations[operation].event) ?? line.event;
  }
}
