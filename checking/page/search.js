// The search: a key, a value, a process, a line of the script, ERR_DEP or ERR_KEY; each find is an event that is drawn.

const PATIENCE = 150; // milliseconds without a letter typed, before a large run is searched

/** Returns which events a text asks for, of those that are drawn. */
function found(run, layout, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const number = wanted.match(/^(?:line\s*)?(\d+)$/)?.[1];
  const process = run.processes.indexOf(wanted);
  const matches = (event) => {
    if (process >= 0) return event.process === process;
    if (number && event.where.endsWith(`line ${number}`)) return true;
    if (wanted === "err_dep" || wanted === "err_key") {
      return event.kind === "operated" && run.operations[event.operation]?.outcome.toLowerCase() === wanted;
    }
    return !wanted.startsWith("line ") && event.text.toLowerCase().includes(wanted);
  };
  return layout.marks.filter((mark) => matches(run.events[mark]));
}

export class Search {
  constructor(run, { field, said, back, forth }, layout, choose, selected) {
    Object.assign(this, { run, field, said, layout, choose, selected });
    field.addEventListener("input", () => this.searchSoon());
    field.addEventListener("keydown", (press) => {
      if (press.key !== "Enter") return;
      press.preventDefault();
      this.search();
      this.go(press.shiftKey ? -1 : 1);
    });
    back.addEventListener("click", () => this.go(-1));
    forth.addEventListener("click", () => this.go(1));
    this.buttons = [back, forth];
    this.search();
  }

  searchSoon() {
    clearTimeout(this.due);
    this.due = setTimeout(() => this.search(), this.run.events.length > 50_000 ? PATIENCE : 0);
  }

  /** Find anew: what is drawn may have changed as well. */
  search() {
    clearTimeout(this.due);
    this.finds = this.layout.marks ? found(this.run, this.layout, this.field.value) : [];
    for (const button of this.buttons) button.disabled = !this.finds.length;
    this.tell();
  }

  tell() {
    const position = this.finds.indexOf(this.selected());
    const total = this.finds.length.toLocaleString("en");
    const at = position < 0 ? "" : `${position + 1} of `;
    this.said.textContent = this.finds.length ? `${at}${total}` : this.field.value.trim() ? "nothing" : "";
  }

  /** Go to the next find, or the one before. */
  go(by) {
    if (!this.finds.length) return;
    const from = this.selected() ?? -1;
    const next = by > 0 ? d3.bisectRight(this.finds, from) : d3.bisectLeft(this.finds, from) - 1;
    this.choose(this.finds[(next + this.finds.length) % this.finds.length]);
    this.tell();
  }
}
