"use strict";
// The run: the story that checking/telling.py has told, what is looked up often, and the kinds of things to show.
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

/** Returns the whole vector clock of an event: process -> number. */
run.clockAt = (number) => {
  const clock = {};
  for (const earlier of run.byProcess[run.events[number].process]) {
    if (earlier > number) break;
    Object.assign(clock, run.events[earlier].clock);
  }
  return clock;
};

/** Returns the keys that an event or a message is about, if any. */
run.keysOf = ({operation, operations, writes}) => {
  const about = operation == null ? operations ?? [] : [operation];
  return about.map((one) => run.operations[one].key).concat((writes ?? []).map((one) => run.writes[one].key));
};

/** Returns what all servers hold once this event has happened: server -> key -> write. */
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

/** Returns the servers that run once this event has happened. */
run.runningAt = (number) => new Set(
  run.lives.filter(({began, ended}) => began <= number && (ended === null || ended > number)).map(({process}) => process),
);

/** The number of the colour of each partition in run.partitions. A partition that goes on keeps its colour. */
run.colours = (() => {
  let before = [];
  return run.partitions.map(([, components]) => {
    const colours = new Array(components.length).fill(null);
    // The partition with the most servers in common goes on; among equals, the one that keeps its lowest server.
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

/** Returns the class of the mark of an event, which decides how it looks. */
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

/** What can be shown: its name, whether it is shown at first, and its explanation. */
const KINDS = {
  operations: ["puts and gets", true, "what clients ask and servers answer"],
  exchanges: ["exchanges", true, "updates that moved between servers"],
  links: ["links", true, "links made and cut"],
  empty: ["empty exchanges", false, "servers asked each other and learnt nothing"],
  calls: ["other calls", false, "calls from the master to servers and clients, and their answers"],
};

function kindOfMessage(message) {
  if (message.name === "execute" || message.name === "execute_group") return "operations";
  if (message.name === "pull") return message.moves ? "exchanges" : "empty";
  return "calls";
}

/** Returns whether a kind of lost messages is shown: with the kind of those that arrive, though none moved anything. */
const kindOfLoss = ({name}) => (name === "pull" ? "exchanges" : kindOfMessage({name}));

// If an exchange has moved anything, both of its messages are shown.
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

/** Returns a duration, given in microseconds, as people write it. */
run.duration = (us) => (us >= 1e6 ? `${d3.format(",.3~f")(us / 1e6)} s` : us >= 1e3 ? `${d3.format(".4~g")(us / 1e3)} ms` : `${d3.format(".4~g")(us)} µs`);

/** Returns a number with the name of what it counts. */
run.count = (number, what, many = `${what}s`) => `${number.toLocaleString("en")} ${number === 1 ? what : many}`;

/** Returns "line 12" for "file: line 12". */
run.line = (where) => where.slice(where.lastIndexOf(": ") + 1 && where.lastIndexOf(": ") + 2);

/** Makes an element with attributes, listeners ("onclick") and children, which are nodes or texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(attribute, value);
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}
