// What every module that shows something needs: elements, and numbers as people write them.

export const byId = (id) => document.getElementById(id);

/** Makes an element with attributes, listeners ("onclick") and children, which are nodes or texts. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(attribute, value);
  }
  made.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Returns nodes with a separator between any two. */
export function joined(nodes, separator) {
  return nodes.flatMap((node, index) => (index ? [separator, node] : [node]));
}

/** Returns a duration, given in microseconds, as people write it. */
export function duration(us) {
  if (us >= 1e6) return `${d3.format(",.3~f")(us / 1e6)} s`;
  return us >= 1e3 ? `${d3.format(".4~g")(us / 1e3)} ms` : `${d3.format(".4~g")(us)} µs`;
}

/** Returns a number with the name of what it counts. */
export function count(number, what, many = `${what}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? what : many}`;
}

/** Returns "line 12" for "file: line 12". */
export function lineOf(where) {
  const colon = where.lastIndexOf(": ");
  return colon < 0 ? where : where.slice(colon + 2);
}
