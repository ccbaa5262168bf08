"use strict";
// What is shown beside the diagram: the chosen event in words, and the stores at that moment.

const MOST_KEYS = 300; // in the table

class Details {
  constructor(place, goTo) {
    this.place = place;
    this.goTo = goTo;
  }

  /** Returns a link to an event. */
  link(number, text) {
    return element("a", {role: "link", tabindex: 0, onclick: () => this.goTo(number), onkeydown: ({key}) => key === "Enter" && this.goTo(number)}, text);
  }

  welcome() {
    const missed = run.operations.filter(({outcome}) => outcome === "ERR_DEP");
    this.place.replaceChildren(...[
      element("h2", {}, "What this shows"),
      element("p", {}, "Each line is a process, time runs downwards, and an arrow is a call or, dashed, its answer; one that ends in a cross was lost. While servers are partitioned, each partition has a colour."),
      element("p", {}, "Click on a put, and follow it to every server that it reached. Click on an ERR_DEP, and see what the session had seen, and what the server had. Once the diagram has the focus (a click on it, or Tab), the arrow keys go from event to event."),
      missed.length && missed[0].event !== null
        ? element("p", {}, `${run.count(missed.length, "get")} ended in ERR_DEP; `, this.link(missed[0].event, "the first one"), ".") : "",
    ]);
  }

  /** Show all that is known about an event. */
  show(number) {
    const event = run.events[number];
    const look = run.lookOf(event);
    const operation = event.operation === null ? null : run.operations[event.operation];
    const facts = [["process", run.processes[event.process]], ["time", run.duration(event.time)]];
    if (event.where) facts.push(["script", event.where]);
    if (event.printed) facts.push(["printed", element("pre", {}, event.printed)]);
    const parts = [element("p", {class: "big"}, event.text || event.kind)];
    if (operation) {
      if (operation.where && !event.where) facts.push(["script", operation.where]);
      if (operation.ended > operation.began) facts.push(["took", run.duration(operation.ended - operation.began)]);
      if (operation.why.length) {
        parts.push(element("div", {class: look === "dependency" || operation.outcome === "ERR_DEP" ? "why dependency" : "why"},
          operation.why.map((sentence) => element("p", {}, sentence))));
      }
      parts.push(this.places(operation, number));
    }
    if (event.kind === "learnt") parts.push(element("ul", {}, event.writes.slice(0, 100).map((one) => element("li", {}, this.writeLink(one)))));
    parts.push(element("dl", {}, facts.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]).flat()));
    for (const write of this.writesOf(event)) parts.push(...this.write(write));
    parts.push(this.clock("vector clock of the process", sayClock(number).split(", ")));
    this.place.replaceChildren(...parts.filter((part) => part !== null));
    this.place.scrollTop = 0;
  }

  /** Returns the writes that an event is about, unless they are many. */
  writesOf(event) {
    const of = event.operation === null ? [] : [run.operations[event.operation].write];
    return event.writes.length === 1 || !event.writes.length ? [...new Set(of.concat(event.writes))].filter((write) => write !== null && write !== undefined) : [];
  }

  /** Returns links to the other events of an operation. */
  places(operation, here) {
    const places = [];
    if (operation.command !== null) places.push([operation.command, "the command"]);
    for (const {event, server} of operation.asked) places.push([event, `at ${run.processes[server]}`]);
    if (operation.event !== null) places.push([operation.event, "the answer"]);
    if (operation.seen_by !== null && run.operations[operation.seen_by].event !== null) {
      places.push([run.operations[operation.seen_by].event, "what the session had seen"]);
    }
    const links = places.filter(([event]) => event !== here).map(([event, text]) => this.link(event, text));
    return element("p", {}, links.flatMap((link, index) => (index ? [" · ", link] : [link])));
  }

  writeLink(write) {
    const {key, value, arrivals} = run.writes[write];
    const text = `${key} = ${value}`;
    return arrivals.length ? this.link(arrivals[0].event, text) : text;
  }

  /** Describes a write: where it came from, and where it went. */
  write(number) {
    const {key, value, dot, clock, timestamp, arrivals, reads, concurrent} = run.writes[number];
    const way = arrivals.map(({server, event, source, stood}) => element("li", {},
      this.link(event, run.processes[server]), ` at ${run.duration(run.events[event].time)}, `,
      source === null ? "put there" : `from ${run.processes[source]}`, stood ? "" : ", where a later one stands"));
    const facts = [["dot", dot], ["vector clock", clock.map(unbroken).join("; ")], ["timestamp", String(timestamp)]];
    if (concurrent.length) facts.push(["concurrent with", element("span", {}, concurrent.flatMap((one, index) => [index ? ", " : "", this.writeLink(one)]))]);
    if (reads.length) {
      const links = reads.slice(0, 12).map((one) => this.link(run.operations[one].event, run.processes[run.operations[one].client]));
      facts.push(["read by", element("span", {}, links.flatMap((link, index) => (index ? [", ", link] : [link])))]);
    }
    return [
      element("h2", {}, `The write ${key} = ${shorten(value, 60)}`),
      arrivals.length ? element("ul", {class: "way"}, way) : element("p", {}, "It was on a disk already, from an earlier run."),
      element("dl", {}, facts.flatMap(([name, fact]) => [element("dt", {}, name), element("dd", {}, fact)])),
    ];
  }

  clock(name, entries) {
    return element("dl", {}, element("dt", {}, name), element("dd", {}, entries.join(", ")));
  }
}

class Stores {
  constructor(place, goTo) {
    this.place = place;
    this.goTo = goTo;
    this.hidden = new Set();
    this.key = "";
  }

  /** Show the stores of all servers once an event has happened. */
  show(number) {
    const stores = run.storesAt(number);
    const running = run.runningAt(number);
    const servers = run.servers.filter((server) => !this.hidden.has(server));
    const all = [...new Set([...stores.values()].flatMap((store) => [...store.keys()]))].filter((key) => !this.key || key === this.key).sort();
    if (!all.length) {
      this.place.replaceChildren(element("p", {}, "Nothing has been written yet."));
      return;
    }
    const head = element("tr", {}, element("th", {}, "key"),
      servers.map((server) => element("th", {class: running.has(server) ? null : "dead"}, `${run.processes[server]}${running.has(server) ? "" : " (down)"}`)));
    const rows = all.slice(0, MOST_KEYS).map((key) => {
      const held = servers.map((server) => stores.get(server).get(key));
      const newest = d3.greatest([...stores.values()].map((store) => store.get(key)).filter((write) => write !== undefined), (write) => run.writes[write].timestamp);
      return element("tr", {}, element("td", {title: key}, key), held.map((write, index) => this.cell(write, newest, running.has(servers[index]))));
    });
    const more = all.length > MOST_KEYS ? element("p", {}, `and ${run.count(all.length - MOST_KEYS, "key")} more: choose one above`) : "";
    this.place.replaceChildren(element("table", {style: `--columns: ${servers.length + 1}`}, element("thead", {}, head), element("tbody", {}, rows)), more);
  }

  cell(write, newest, running) {
    const classes = [running ? "" : "dead", write === newest ? "" : "behind", write === undefined ? "none" : ""];
    const attributes = {class: classes.join(" ").trim() || null};
    if (write === undefined) return element("td", attributes, "—");
    const {value, arrivals} = run.writes[write];
    attributes.title = value;
    attributes["data-write"] = write;
    if (arrivals.length) attributes.onclick = () => this.goTo(arrivals[0].event);
    return element("td", attributes, shorten(value, 40));
  }
}
