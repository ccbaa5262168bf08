// The arrows of the diagram: each message from its sender to its receiver, and the ways that followed writes took.

import { ROW } from "./layout.js";
import { sayEvent, sayMessage } from "./texts.js";

const DENSE = 1000; // arrows in sight: with more, only those that brought something are drawn, and few labels

/** Draws the arrows between two heights; returns whether they are too many to draw all of them. */
export function drawArrows(diagram, layer, top, bottom) {
  const { run, layout } = diagram;
  const { y } = layout;
  const drawn = new Set();
  const crossing = layout.arrows.filter(
    ({ sent, received }) => y[received] >= top && y[sent] <= bottom && received <= diagram.limit,
  );
  const dense = crossing.length > DENSE;
  const inSight = crossing.filter((message) => {
    if (isFollowed(diagram, message)) return true;
    if (dense && !message.writes.length) return false;
    const pixels = [...run.endsOf(message), y[message.sent] >> 1, y[message.received] >> 1].join();
    if (drawn.has(pixels)) return false;
    drawn.add(pixels);
    return true;
  });
  const look = (message) => {
    const kind = message.writes.length ? "moved" : run.kindOfMessage(message) === "operations" ? "operation" : "call";
    return `${kind}${message.answer ? " answer" : ""}${isFollowed(diagram, message) ? " on" : ""}`;
  };
  const path = (message) => line(layout, message);
  layer
    .selectAll("path.message")
    .data(inSight)
    .join("path")
    .attr("class", (message) => `message ${look(message)}`)
    .attr("d", path);
  layer
    .selectAll("path.tip")
    .data(dense ? [] : inSight)
    .join("path")
    .attr("class", (message) => `tip ${look(message)}`)
    .attr("d", "M0,0L-8,-3.2L-8,3.2Z")
    .attr("transform", ({ sent, received }) => {
      const [[x1, y1], [x2, y2]] = [layout.place(sent), layout.place(received)];
      return `translate(${x2},${y2}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI}) translate(-5,0)`;
    });
  layer
    .selectAll("path.reach")
    .data(dense ? [] : inSight)
    .join("path")
    .attr("class", "reach")
    .attr("d", path)
    .attr("data-message", ({ number }) => number)
    .call((reach) =>
      diagram.listen(
        reach,
        (message) => sayMessage(run, message),
        ({ received }) => diagram.onselect(layout.nextMark(received)),
      ),
    );
  return dense;
}

/** Draws the messages that were lost: arrows that end on the way, in a cross. */
export function drawLosses(diagram, layer, top, bottom) {
  const { run, layout } = diagram;
  const isSeen = ({ event, sender, receiver }) => {
    const y = layout.y[event];
    return y >= top - ROW && y <= bottom && event <= diagram.limit && layout.x.has(sender) && layout.x.has(receiver);
  };
  const lost = layout.losses.filter(isSeen);
  const end = ({ event, sender, receiver }) => [
    0.4 * layout.x.get(sender) + 0.6 * layout.x.get(receiver),
    layout.y[event] + 9,
  ];
  layer
    .selectAll("path.message")
    .data(lost)
    .join("path")
    .attr("class", ({ answer }) => `message lost${answer ? " answer" : ""}`)
    .attr("d", (loss) => `M${layout.x.get(loss.sender)},${layout.y[loss.event]}L${end(loss)}`);
  layer
    .selectAll("path.cross")
    .data(lost)
    .join("path")
    .attr("class", "cross")
    .attr("d", (loss) => `M${end(loss)}m-5,-5l10,10m0,-10l-10,10`)
    .call((crosses) => diagram.listen(crosses, ({ event }) => sayEvent(run, event)));
}

/** Draws the ways that the followed writes took from server to server. */
export function drawFollowed(diagram, layer) {
  const { run, layout } = diagram;
  const ways = [...diagram.followed]
    .flatMap((write) => run.writes[write].arrivals)
    .filter(({ message, event }) => message !== null && event <= diagram.limit)
    .map(({ message }) => run.messages[message])
    .filter((message) => run.endsOf(message).every((process) => layout.x.has(process)));
  layer
    .selectAll("path")
    .data(ways)
    .join("path")
    .attr("class", "followed")
    .attr("d", (message) => line(layout, message));
}

function line(layout, { sent, received }) {
  return `M${layout.place(sent)}L${layout.place(received)}`;
}

function isFollowed(diagram, message) {
  const { run, followed } = diagram;
  const { operation = null } = run.events[diagram.selected] ?? {};
  if (message.writes.some((write) => followed.has(write))) return true;
  if (operation !== null && message.operations.includes(operation)) return true;
  return message.operations.some((one) => run.operations[one].put && followed.has(run.operations[one].write));
}
