"use strict";
// Texts: labels that fit into their room, and what the tips say about events and messages. Nothing here draws.

const pen = document.createElement("canvas").getContext("2d");
const PLAIN = "12px system-ui, 'Helvetica Neue', Arial, sans-serif"; // as in diagram.css
const COMMAND = "11.5px ui-monospace, Menlo, Consolas, monospace";
const HEADING = `650 ${PLAIN}`;
const OUTCOME = /(→ |: )?(ERR_DEP|ERR_KEY|refused|uncertain|unusable|undone|lost)$/;

/** Returns how many pixels a text takes. */
function pixels(text, font) {
  pen.font = font;
  return pen.measureText(text).width;
}

/** Returns a label that fits: keys and values lose their middle, the outcome is never shortened. "" if none fits. */
function fitted(text, room, font) {
  const fits = (line) => pixels(line, font) <= room;
  let line = shorten(text, 400);
  if (fits(line)) return line;
  line = line.replace(/^learns /, ""); // the shape of its mark says that
  const [outcome = ""] = line.match(OUTCOME) ?? [];
  const rest = line.slice(0, line.length - outcome.length).trim();
  const words = rest.match(/^(\S+ )?(\S+ )?(\S+ )?(.*)$/).slice(1).filter((word) => word).map((word) => word.trim());
  const label = () => words.join(" ") + (outcome.startsWith("→") ? " " : "") + outcome;
  while (!fits(label())) {
    const index = d3.maxIndex(words, (word) => word.length);
    const {length} = words[index] ?? "";
    if (length < 4) return [outcome.replace(/^\W+/, "")].find(fits) ?? "";
    const excess = Math.ceil(((pixels(label(), font) - room) / pixels(words[index], font)) * length);
    words[index] = withoutMiddle(words[index], Math.max(3, length - excess));
  }
  return label();
}

/** Returns a text of at most this many characters: an ellipsis stands for what is left out. */
function withoutMiddle(text, most) {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end).replace("…", "")}…${text.slice(text.length - end).replace("…", "")}`;
}

function shorten(text, most) {
  const line = text.replaceAll("\n", "⏎");
  return line.length > most ? `${line.slice(0, Math.max(1, most - 1))}…` : line;
}

/** Returns a text that stays in one line. */
function unbroken(text) {
  return text.replaceAll(" ", "\u00a0");
}

function sayClock(number) {
  return Object.entries(run.clockAt(number)).map(([process, count]) => unbroken(`${run.processes[process]}: ${count}`)).join(", ");
}

/** Returns an event as lines; the first is the heading. */
function sayEvent(number) {
  const event = run.events[number];
  const lines = [event.text || event.kind, `${run.processes[event.process]}, at ${run.duration(event.time)}${event.where ? `, ${run.line(event.where)}` : ""}`];
  if (event.printed) lines.push(`printed: ${shorten(event.printed, 120)}`);
  return [...lines, `vector clock: ${sayClock(number)}`];
}

function sayMessage(message) {
  const [sent, received] = [run.events[message.sent], run.events[message.received]];
  const lines = [`${message.name}: ${message.answer ? "answer" : "call"} from ${run.processes[sent.process]} to ${run.processes[received.process]}`];
  for (const one of message.writes.slice(0, 8)) lines.push(`brings ${run.writes[one].key} = ${shorten(run.writes[one].value, 60)}`);
  if (message.writes.length > 8) lines.push(`and ${run.count(message.writes.length - 8, "write")} more`);
  for (const one of message.operations.slice(0, 8)) {
    const {put, key, value} = run.operations[one];
    lines.push(put ? `put ${key} ${shorten(value, 60)}` : `get ${key}`);
  }
  if (message.operations.length > 8) lines.push(`and ${run.count(message.operations.length - 8, "operation")} more`);
  lines.push(`sent at ${run.duration(sent.time)}, took ${run.duration(received.time - sent.time)}`);
  return [...lines, `sender's clock: ${sayClock(message.sent)}`, `receiver's clock: ${sayClock(message.received)}`];
}
