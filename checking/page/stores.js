// What every server holds at the moment that is looked at.

import { count, element } from "./dom.js";
import { shorten } from "./texts.js";

const MOST_KEYS = 100; // in the table

export class Stores {
  constructor(run, place, choose) {
    this.run = run;
    this.place = place;
    this.choose = choose;
    this.hidden = new Set();
    this.key = "";
    this.about = new Set(); // writes that the chosen event is about
  }

  /** Show the stores of all servers once an event has happened. */
  show(number) {
    const { run } = this;
    const stores = run.storesAt(number);
    const running = run.runningAt(number);
    const servers = run.servers.filter((server) => !this.hidden.has(server));
    const all = [...new Set([...stores.values()].flatMap((store) => [...store.keys()]))]
      .filter((key) => !this.key || key === this.key)
      .sort();
    if (!all.length) {
      this.place.replaceChildren(element("p", {}, "Nothing has been written yet."));
      return;
    }
    const heads = servers.map((server) => {
      const down = running.has(server) ? "" : " (down)";
      return element("th", { scope: "col", class: down ? "dead" : null }, `${run.processes[server]}${down}`);
    });
    // The keys of what was chosen come first: of many, they would be out of sight.
    const about = new Set([...this.about].map((write) => run.writes[write].key));
    const sorted = [...all.filter((key) => about.has(key)), ...all.filter((key) => !about.has(key))];
    const rows = sorted.slice(0, MOST_KEYS).map((key) => {
      const held = servers.map((server) => stores.get(server).get(key));
      const known = [...stores.values()].map((store) => store.get(key)).filter((write) => write !== undefined);
      const newest = d3.greatest(known, (write) => run.writes[write].timestamp);
      const cells = held.map((write, index) => this.cell(write, newest, servers[index], running.has(servers[index])));
      return element("tr", {}, element("th", { scope: "row", title: key }, key), cells);
    });
    const more =
      all.length > MOST_KEYS
        ? [element("p", {}, `and ${count(all.length - MOST_KEYS, "key")} more: choose one above`)]
        : [];
    const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "key"), heads));
    this.place.replaceChildren(
      element("table", { style: `--columns: ${servers.length + 1}` }, head, element("tbody", {}, rows)),
      ...more,
    );
  }

  cell(write, newest, server, running) {
    const classes = [
      running ? "" : "dead",
      write === newest ? "" : "behind",
      write === undefined ? "none" : "",
      this.about.has(write) ? "about" : "",
    ];
    const attributes = { class: classes.join(" ").trim() || null };
    if (write === undefined) return element("td", attributes, "—");
    const { value, arrivals } = this.run.writes[write];
    const came = arrivals.find((arrival) => arrival.server === server) ?? arrivals[0];
    const text = shorten(value, 40);
    const old = write === newest ? "" : element("span", { class: "unseen" }, " (older)");
    if (!came) return element("td", { ...attributes, title: value }, text, old);
    return element(
      "td",
      attributes,
      element("button", { class: "cell", title: value, onclick: () => this.choose(came.event) }, text, old),
    );
  }
}
