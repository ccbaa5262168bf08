// Three plots over the time of the run: staleness, latency and throughput. A click on a plot goes to that moment.

import { count, duration, element } from "./dom.js";

const HEIGHT = 118;
const MOST_BINS = 60; // of the operations over time
const MARGIN = { top: 6, right: 26, bottom: 20, left: 46 };

export class Charts {
  constructor(run, place, goTo, hover) {
    this.run = run;
    this.place = place;
    this.goTo = goTo;
    this.hover = hover;
    this.moment = 0;
    this.lines = [];
    new ResizeObserver(() => this.draw()).observe(place);
  }

  draw() {
    this.place.replaceChildren();
    this.lines = [];
    if (!this.place.clientWidth) return; // they are folded away
    this.staleness();
    this.latency();
    this.throughput();
    this.mark(this.moment);
  }

  /** Show the moment at which the run is looked at. */
  mark(time) {
    this.moment = time;
    for (const { line, x } of this.lines) line.attr("x1", x(time)).attr("x2", x(time));
  }

  /** Makes a plot with its axes; *legend*: names with their colours; *say* returns the lines of the tip for a time. */
  chart(id, title, legend, y, say) {
    const { length } = this.run;
    const keys = legend.map(([name, colour]) =>
      element("span", {}, element("i", { style: `background: ${colour}` }), name),
    );
    const section = element("section", { id }, element("h2", {}, title, keys));
    this.place.append(section);
    const width = section.clientWidth - 28;
    const x = d3.scaleLinear([0, Math.max(1, length)], [MARGIN.left, width - MARGIN.right]);
    y.range([HEIGHT - MARGIN.bottom, MARGIN.top]);
    const svg = d3
      .select(section)
      .append("svg")
      .attr("viewBox", `0 0 ${width} ${HEIGHT}`)
      .attr("class", "diagram chart")
      .attr("aria-hidden", "true");
    const whole = (value) => (Number.isInteger(value) ? d3.format(",")(value) : "");
    const axis = d3
      .axisLeft(y)
      .ticks(Math.min(4, y.domain()[1]))
      .tickFormat(id === "latency" ? duration : whole)
      .tickSizeOuter(0);
    if (id === "latency") axis.tickValues(logTicks(y.domain()));
    svg
      .append("g")
      .attr("transform", `translate(0,${HEIGHT - MARGIN.bottom})`)
      .call(d3.axisBottom(x).ticks(5).tickFormat(duration).tickSizeOuter(0));
    svg.append("g").attr("transform", `translate(${MARGIN.left},0)`).call(axis);
    const plot = svg.append("g");
    const line = svg
      .append("line")
      .attr("class", "moment")
      .attr("y1", MARGIN.top)
      .attr("y2", HEIGHT - MARGIN.bottom);
    this.lines.push({ line, x });
    const timeAt = (pointer) => Math.min(length, Math.max(0, x.invert(d3.pointer(pointer, svg.node())[0])));
    svg
      .on("pointermove", (pointer) => this.hover(pointer, say(timeAt(pointer), pointer, x, y)))
      .on("pointerleave", () => this.hover(null))
      .on("click", (pointer) => this.goTo(timeAt(pointer)));
    return { plot, x, y };
  }

  /** Draw two areas that stand on each other, so that neither covers the other. */
  staleness() {
    const { run } = this;
    const last = run.staleness.at(-1) ?? [0, 0, 0];
    const points = [[0, 0, 0], ...run.staleness, [run.length, last[1], last[2]]];
    const most = d3.max(points, ([, across]) => across) || 1;
    const legend = [
      ["within a partition", "var(--missing)"],
      ["only between partitions", "var(--apart)"],
    ];
    const say = (time) => {
      const [, across, within] = points[d3.bisector(([at]) => at).right(points, time) - 1] ?? [0, 0, 0];
      return [
        duration(time),
        `${count(across, "key")} differing between running servers`,
        `${count(within, "key")} differing even within a partition`,
      ];
    };
    const scale = d3.scaleLinear([0, most], [0, 1]).nice(4);
    const { plot, x, y } = this.chart("staleness", "Keys that differ", legend, scale, say);
    const area = (from, to) =>
      d3
        .area()
        .curve(d3.curveStepAfter)
        .x(([time]) => x(time))
        .y0((point) => y(from(point)))
        .y1((point) => y(to(point)));
    const within = ([, , number]) => number;
    plot
      .append("path")
      .attr("class", "area within")
      .attr("d", area(() => 0, within)(points));
    plot
      .append("path")
      .attr("class", "area between")
      .attr("d", area(within, ([, across]) => across)(points));
  }

  latency() {
    const { run } = this;
    const done = run.operations.filter(({ began, ended }) => ended > began);
    const [least, most] = d3.extent(done, ({ began, ended }) => ended - began);
    const groups = [
      ["put", "var(--put)", ({ put }) => put],
      ["get", "var(--learnt)", ({ put, outcome }) => !put && outcome !== "ERR_DEP"],
      ["ERR_DEP", "var(--dependency)", ({ outcome }) => outcome === "ERR_DEP"],
    ];
    const near = (time, pointer, x, y) => {
      const [px, py] = d3.pointer(pointer, pointer.currentTarget);
      const closest = d3.least(done, ({ began, ended }) => Math.hypot(x(ended) - px, y(ended - began) - py));
      if (!closest) return [duration(time)];
      const { put, key, client, began, ended } = closest;
      return [
        `${put ? "put" : "get"} ${key}: ${duration(ended - began)}`,
        `${run.processes[client]}, at ${duration(ended)}`,
      ];
    };
    const scale = d3.scaleLog([(least ?? 1) / 1.3, (most ?? 10) * 1.3], [0, 1]);
    const { plot, x, y } = this.chart("latency", "Latency", groups, scale, near);
    for (const [, colour, belongs] of groups) {
      const points = done
        .filter(belongs)
        .map(({ began, ended }) => `M${x(ended).toFixed(1)},${y(ended - began).toFixed(1)}h0`);
      plot
        .append("path")
        .attr("d", [...new Set(points)].join(""))
        .attr("class", "dots")
        .style("stroke", colour);
    }
  }

  /** Draw counts, not rates: one operation in a bin of one millisecond does not mean a thousand in a second. */
  throughput() {
    const { run } = this;
    const width = roundWidth(run.length / MOST_BINS);
    const bins = Math.floor(run.length / width) + 1;
    const counts = new Array(bins).fill(0);
    for (const { ended } of run.operations) counts[Math.floor(ended / width)] += 1;
    const say = (time) => {
      const bin = Math.floor(time / width);
      return [
        `${duration(bin * width)} to ${duration((bin + 1) * width)}`,
        count(counts[bin], "put or get", "puts and gets"),
      ];
    };
    const title = `Puts and gets in each ${width === 1e6 ? "second" : duration(width)}`;
    const scale = d3.scaleLinear([0, d3.max(counts) || 1], [0, 1]).nice(4);
    const { plot, x, y } = this.chart("throughput", title, [], scale, say);
    const [left, right] = [(bin) => x(bin * width), (bin) => x(Math.min(run.length, (bin + 1) * width))];
    plot
      .selectAll("rect")
      .data(counts)
      .join("rect")
      .attr("class", "count")
      .attr("x", (_, bin) => left(bin))
      .attr("width", (_, bin) => Math.max(1, right(bin) - left(bin) - 1))
      .attr("y", y)
      .attr("height", (number) => y(0) - y(number));
  }
}

/** Returns the smallest of 1, 2, 5, 10, 20, … microseconds that is not below a duration. */
export function roundWidth(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((digit) => digit * power).find((width) => width >= least);
}

/** Returns some round durations between two. */
function logTicks([least, most]) {
  const round = d3.range(-1, 9).flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
  const ticks = round.filter((tick) => tick >= least && tick <= most);
  const step = Math.ceil(ticks.length / 5);
  return ticks.filter((_, index) => index % step === 0);
}
