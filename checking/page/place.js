// The permalink: the part of the address behind # says which event is chosen, and how the run is looked at.

/** Returns what the address says: {at, view, axis, zoom, key}, as far as it does. */
export function readPlace() {
  const words = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (/^\d+(\.\d+)?$/.test(words.get(name) ?? "") ? Number(words.get(name)) : undefined);
  return {
    at: number("at"),
    zoom: number("zoom"),
    view: ["diagram", "bars"].find((view) => view === words.get("view")),
    axis: ["order", "time"].find((axis) => axis === words.get("axis")),
    key: words.get("key") ?? undefined,
  };
}

/** Say in the address how the run is looked at. */
export function writePlace({ selected, layout }) {
  const words = new URLSearchParams();
  if (selected !== null) words.set("at", selected);
  if (layout.view !== "diagram") words.set("view", layout.view);
  if (layout.axis !== "order") words.set("axis", layout.axis);
  if (Math.abs(layout.zoom - 1) > 1e-3) words.set("zoom", layout.zoom.toPrecision(4));
  if (layout.key) words.set("key", layout.key);
  const hash = `#${words}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}
