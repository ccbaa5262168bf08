"use strict";
// The run: what story.py has told, with what is looked up often, and the kinds of things that can be shown.
// Nothing here draws.

const run = JSON.parse(document.getElementById("run").textContent);

run.kindOf = run.processes.map((name) => name.split(" ")[0]);
run.servers = d3.range(run.processes.length).filter((process) => run.kindOf[process] === "server");
run.byProcess = run.processes.map(() => []);
run.events.forEach((event, number) => {
  event.number = number;
  run.byProcess[event.process].push(number);
});
run.keys = [...new Set(run.operations.map((operation) => operation.key).concat(run.writes.map((write) => write.key)))].sort();

/** The whole vector clock of an event: process -> number. */
run.clockAt = (number) => {
  const clock = {};
  for (const earlier of run.byProcess[run.events[number].process]) {
    if (earlier > number) break;
    Object.assign(clock, run.events[earlier].clock);
  }
  return clock;
};

/** The keys that an event or a message is about; none where it is about no key. */
run.keysOf = ({operation, operations, writes}) => {
  const about = operation == null ? operations ?? [] : [operation];
  return about.map((one) => run.operations[one].key).concat((writes ?? []).map((one) => run.writes[one].key));
};

/** What all servers hold once this event has happened: server -> key -> write. */
run.storesAt = (() => {
  let position = 0;
  let stores = new Map();
  let last = -1;
  return (number) => {
    if (number < last || last < 0) {
      position = 0;
      stores = new Map(run.servers.map((server) => [server, new Map()]));
    }
    last = number;
    for (; position < run.changes.length && run.changes[position][0] <= number; position++) {
      const [, server, key, write] = run.changes[position];
      if (write === null) stores.get(server).delete(key);
      else stores.get(server).set(key, write);
    }
    return stores;
  };
})();

/** The servers that run once this event has happened. */
run.runningAt = (number) => new Set(
  run.lives.filter(({began, ended}) => began <= number && (ended === null || ended > number)).map(({process}) => process),
);

/** The colours of partitions, by number, as run.partitions has them: one that goes on keeps its colour. */
run.colours = (() => {
  let before = [];
  return run.partitions.map(([, components]) => {
    const colours = new Array(components.length).fill(null);
    // What has most servers in common goes on; among equals, what keeps its lowest server.
    const pairs = components.flatMap((servers, index) => before.map(({servers: earlier, colour}) => (
      {index, colour, common: servers.filter((server) => earlier.includes(server)).length, lowest: servers[0] === earlier[0]}
    ))).filter(({common}) => common);
    for (const {index, colour} of d3.sort(pairs, (one, other) => other.common - one.common || other.lowest - one.lowest)) {
      if (colours[index] === null && !colours.includes(colour)) colours[index] = colour;
    }
    for (const index of colours.keys()) colours[index] ??= d3.range(components.length).find((colour) => !colours.includes(colour));
    before = components.map((servers, index) => ({servers, colour: colours[index]}));
    return colours;
  });
})();

/** What an event is, for its look: the class of its mark. */
run.lookOf = (event) => {
  const {kind, operation, number} = event;
  if (kind === "operated" || kind === "executed") {
    const {put, outcome, asked} = run.operations[operation] ?? {put: event.writes.length > 0, asked: []};
    const answer = kind === "operated" ? outcome : asked.find((one) => one.event === number)?.answer;
    if (answer === "ERR_DEP") return "dependency";
    if (answer === "ERR_KEY") return "missing";
    if (["refused", "uncertain", "unusable", "undone"].includes(outcome) && kind === "operated") return "error";
    return put ? "put" : "get";
  }
  return ["command", "error", "warning", "learnt", "started", "killed"].includes(kind) ? kind : "other";
};

/** What can be shown: its name, whether it is at first, and what it says. */
const KINDS = {
  operations: ["puts and gets", true, "what clients ask, and servers answer"],
  exchanges: ["exchanges", true, "updates that moved between servers"],
  links: ["links", true, "links made and cut"],
  empty: ["empty exchanges", false, "servers that asked each other and learnt nothing"],
  calls: ["other calls", false, "what the master tells servers and clients, and what it is answered"],
};

function kindOfMessage(message) {
  if (message.name === "execute" || message.name === "execute_group") return "operations";
  if (message.name === "pull") return message.moves ? "exchanges" : "empty";
  return "calls";
}

// Both ways of an exchange are shown if anything was moved by it.
{
  const asked = new Map();
  for (const [number, message] of run.messages.entries()) {
    message.number = number;
    if (message.name !== "pull") continue;
    message.moves = message.writes.length > 0;
    const [from, to] = [run.events[message.sent].process, run.events[message.received].process];
    if (!message.answer) asked.set(`${from} ${to}`, message);
    else if (message.moves && asked.has(`${to} ${from}`)) asked.get(`${to} ${from}`).moves = true;
  }
}

/** A duration in microseconds, for people. */
run.duration = (us) => (us >= 1e6 ? `${d3.format(",.3~f")(us / 1e6)} s` : us >= 1e3 ? `${d3.format(".4~g")(us / 1e3)} ms` : `${d3.format(".4~g")(us)} µs`);

/** How often it happened, for people. */
run.count = (number, what, many = `${what}s`) => `${number.toLocaleString("en")} ${number === 1 ? what : many}`;

/** "line 12" of "file: line 12". */
run.line = (where) => where.slice(where.lastIndexOf(": ") + 1 && where.lastIndexOf(": ") + 2);

/** A new element with attributes, listeners ("onclick") and children: nodes, or texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(attribute, value);
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}
