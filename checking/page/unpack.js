// Unpacks a story: the inverse of checking/packing.py, where the format stands.

const EMPTY = Object.freeze([]);

const COLUMNS = {
  numbers: (values) => summed(values),
  times: (values) => summed(values).map((value) => value / 10),
  texts: (values) => values,
  names: (names, numbers) => numbers.map((number) => names[number]),
  flags: (values) => values.map(Boolean),
  lists: (sizes, values) => {
    const numbers = summed(values);
    let end = 0;
    return sizes.map((size) => {
      if (!size) return EMPTY;
      end += size;
      return numbers.slice(end - size, end);
    });
  },
};

/** Returns the story that a text stands for. Its records have their lists again: an operation has *asked* and *why*. */
export async function unpack(text) {
  const stream = new Blob([decoded(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const story = JSON.parse(await new Response(stream).text());
  for (const [name, table] of Object.entries(story.tables)) story[name] = records(table);
  delete story.tables;
  gather(story.asked, story.operations, "asked");
  gather(story.reasons, story.operations, "why", ({ text: reason }) => reason);
  gather(story.arrivals, story.writes, "arrivals");
  gather(story.clocks, story.writes, "clock", ({ text: entry }) => entry);
  return story;
}

function decoded(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text.trim());
  const bytes = new Uint8Array(letters.length);
  for (let index = 0; index < letters.length; index++) bytes[index] = letters.charCodeAt(index);
  return bytes;
}

function summed(differences) {
  let sum = 0;
  return differences.map((difference) => {
    if (difference === null) return null;
    sum += difference;
    return sum;
  });
}

function records(table) {
  const columns = Object.entries(table).map(([name, [kind, ...data]]) => [name, COLUMNS[kind](...data)]);
  const rows = new Array(columns[0][1].length);
  for (let row = 0; row < rows.length; row++) {
    const record = {};
    for (const [name, values] of columns) record[name] = values[row];
    rows[row] = record;
  }
  return rows;
}

/** Give each owner the list of what belongs to it. */
function gather(owned, owners, name, get = (one) => one) {
  for (const owner of owners) owner[name] = [];
  for (const one of owned) owners[one.owner][name].push(get(one));
}
