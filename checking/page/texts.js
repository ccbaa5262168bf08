// Texts: labels that fit into their room, and what the tips say about events and messages. Nothing here draws.

import { count, duration, lineOf } from "./dom.js";

const pen = document.createElement("canvas").getContext("2d");
export const PLAIN = "12px system-ui, 'Helvetica Neue', Arial, sans-serif"; // as in diagram.css
export const COMMAND = "11.5px ui-monospace, Menlo, Consolas, monospace";
export const HEADING = `650 ${PLAIN}`;
const OUTCOME = /(→ |: )?(ERR_DEP|ERR_KEY|refused|uncertain|unusable|undone|lost)$/;
const MOST = 8; // of the writes or operations that a tip names

/** Returns how many pixels a text takes. */
export function pixels(text, font) {
  pen.font = font;
  return pen.measureText(text).width;
}

/** Returns a label that fits: keys and values lose their middle, the outcome is never shortened. "" if none fits. */
export function fitted(text, room, font) {
  const fits = (line) => pixels(line, font) <= room;
  let line = shorten(text, 400);
  if (fits(line)) return line;
  line = line.replace(/^learns /, ""); // the shape of its mark says that
  const [outcome = ""] = line.match(OUTCOME) ?? [];
  const rest = line.slice(0, line.length - outcome.length).trim();
  const words = rest
    .match(/^(\S+ )?(\S+ )?(\S+ )?(.*)$/)
    .slice(1)
    .filter((word) => word)
    .map((word) => word.trim());
  const label = () => words.join(" ") + (outcome.startsWith("→") ? " " : "") + outcome;
  while (!fits(label())) {
    const index = d3.maxIndex(words, (word) => word.length);
    const { length } = words[index] ?? "";
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

export function shorten(text, most) {
  const line = text.replaceAll("\n", "⏎");
  return line.length > most ? `${line.slice(0, Math.max(1, most - 1))}…` : line;
}

/** Returns a text that stays in one line. */
export function unbroken(text) {
  return text.replaceAll(" ", "\u00a0");
}

export function sayClock(run, number) {
  return run
    .clockAt(number)
    .map(([process, events]) => unbroken(`${run.processes[process]}: ${events}`))
    .join(", ");
}

/** Returns an event as lines; the first is the heading. */
export function sayEvent(run, number) {
  const { text, kind, process, time, where, printed } = run.events[number];
  const place = where ? `, ${lineOf(where)}` : "";
  const lines = [text || kind, `${run.processes[process]}, at ${duration(time)}${place}`];
  return printed ? [...lines, `printed: ${shorten(printed, 120)}`] : lines;
}

/** Returns a message as lines; the first is the heading. */
export function sayMessage(run, message) {
  const [sent, received] = [run.events[message.sent], run.events[message.received]];
  const what = message.answer ? "answer" : "call";
  const lines = [`${message.name}: ${what} from ${run.processes[sent.process]} to ${run.processes[received.process]}`];
  for (const one of message.writes.slice(0, MOST)) {
    lines.push(`brings ${run.writes[one].key} = ${shorten(run.writes[one].value, 60)}`);
  }
  if (message.writes.length > MOST) lines.push(`and ${count(message.writes.length - MOST, "write")} more`);
  for (const one of message.operations.slice(0, MOST)) {
    const { put, key, value } = run.operations[one];
    lines.push(put ? `put ${key} ${shorten(value, 60)}` : `get ${key}`);
  }
  if (message.operations.length > MOST) lines.push(`and ${count(message.operations.length - MOST, "operation")} more`);
  lines.push(`sent at ${duration(sent.time)}, took ${duration(received.time - sent.time)}`);
  return lines;
}
