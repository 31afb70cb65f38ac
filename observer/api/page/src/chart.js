// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.

import uPlot from "uplot";
import { h, say } from "./dom.js";
import { shown } from "./history.js";
import { theme } from "./palette.js";
import { cumulate } from "./stats.js";

const font = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const exactClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// Chart is a panel with lines over the last minutes: its title, a legend whose figures are those under the cursor, or else the newest,
// and the drawing. What it shows is given by series, a function from the history's items to
// [{ label, colour, of(item), down, fill, dash, width, quiet }], where of gives a number or null, down draws it below zero, and quiet keeps it
// out of the legend. least is the least that the axis reaches to, and steps are the distances that its figures may have. With stack, the
// series are areas on top of each other, the first at the bottom.
export class Chart {
  constructor(
    container,
    { title, note, format, series, span, id, height = 190, log = null, under = null, absence = () => null, actions = [], least = 0, steps, stack = false },
  ) {
    Object.assign(this, { format, seriesOf: series, span, log, under, absence, height, least, steps, stack });
    this.legend = h("ul", { class: "legend" });
    this.canvas = h("div", { class: "plot", role: "img", tabindex: "0", "aria-labelledby": `${id}-title` });
    this.plotText = h("p", { class: "hidden", id: `${id}-text` });
    this.canvas.setAttribute("aria-describedby", `${id}-text`);
    this.missing = h("div", { class: "missing", hidden: true });
    this.title = h("h2", { id: `${id}-title` }, title);
    this.note = h("span", { class: "note" }, note);
    this.element = h(
      "section",
      { class: "panel chart", id, "aria-labelledby": `${id}-title` },
      h("header", {}, this.title, this.note, ...actions),
      this.legend,
      this.canvas,
      this.missing,
      this.plotText,
    );
    container.append(this.element);
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  // rebuild draws anew with the colours of the theme.
  rebuild() {
    this.shape = null;
    if (this.items) this.update(this.items, this.now);
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  update(items, now) {
    this.items = items;
    this.now = now;
    this.from = now - shown(items, now, this.span);
    const absence = this.absence();
    this.missing.hidden = !absence;
    this.canvas.hidden = this.legend.hidden = Boolean(absence);
    if (absence) {
      const text = [absence.title, ...absence.reasons].join("\n");
      if (text !== this.missingText) {
        this.missing.replaceChildren(h("strong", {}, absence.title), ...absence.reasons.map((r) => h("p", {}, r)));
        this.missingText = text;
      }
      return;
    }
    this.series = this.seriesOf(items);
    const values = this.series.map((s) =>
      items.map((i) => {
        const value = i.metrics ? s.of(i) : null;
        return value !== null && s.down ? -value : value;
      }),
    );
    const data = [items.map((i) => i.time), ...(this.stack ? cumulate(values) : values)];
    const shape = this.series.map((s) => `${s.label}${s.colour}`).join();
    if (shape === this.shape) this.plot.setData(data);
    else this.build(data, shape);
    this.figures();
  }

  build(data, shape) {
    this.shape = shape;
    this.plot?.destroy();
    const t = theme();
    const axis = { stroke: t.text, font, grid: { stroke: t.grid, width: 1 }, ticks: { show: false } };
    const y = this.log
      ? { distr: 3, log: 10, range: () => this.log() }
      : {
          range: (_, min, max) => {
            const top = Math.max(max ?? 0, this.least) * 1.08 || 1;
            return this.series.some((s) => s.down) ? [Math.min(min ?? 0, -this.least) * 1.08 || -1, top] : [0, top];
          },
        };
    this.plot = new uPlot(
      {
        width: this.canvas.clientWidth || 300,
        height: this.height,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "time" }, drag: { x: false, y: false, setScale: false }, y: false, points: { size: 6 } },
        scales: { x: { range: () => [this.from, this.now] }, y },
        axes: [
          {
            ...axis,
            space: 70,
            size: 26,
            // A time that would not fit at the right edge is left out.
            values: (u, splits, __, ___, step) =>
              splits.map((s) => (u.valToPos(this.now, "x") - u.valToPos(s, "x") < (step < 60 ? 20 : 10) ? "" : (step < 60 ? exactClock : clock).format(s * 1000))),
          },
          {
            ...axis,
            size: 62,
            space: 34,
            values: (_, splits) => splits.map((s) => (s === null ? "" : this.format(Math.abs(s)))),
            ...(this.steps && { incrs: this.steps }),
            ...(this.log && { splits: (_, __, low, high) => decades(low, high), filter: (_, splits) => splits }),
          },
        ],
        series: [
          {},
          ...this.series.map((s) => ({
            stroke: s.colour,
            // A line around an area of nothing would hide what is below it.
            width: this.stack ? 0 : (s.width ?? 1.5),
            fill: this.stack ? `${s.colour}c0` : s.fill ? `${s.colour}38` : undefined,
            dash: s.dash,
            points: { show: false },
            spanGaps: false,
            fillTo: 0,
          })),
        ],
        // Each area ends where the one below it begins.
        bands: this.stack ? this.series.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : [],
        hooks: {
          drawClear: this.under ? [(u) => this.under(u)] : [],
          drawAxes: this.series.some((s) => s.down) ? [(u) => zero(u, t.zero)] : [],
          setCursor: [
            (u) => {
              this.at = u.cursor.idx;
              this.figures();
            },
          ],
        },
      },
      data,
      this.canvas,
    );
    this.legend.replaceChildren(
      ...this.series
        .filter((s) => !s.quiet)
        .map((s) => {
          s.figure = h("span", { class: "figure" });
          const swatch = h("i", { class: s.dash ? "swatch dashed" : "swatch" });
          swatch.style.setProperty("--colour", s.colour);
          return h("li", {}, swatch, h("span", {}, s.label), s.figure);
        }),
    );
    this.shown = this.series.filter((s) => !s.quiet).map((s) => s.figure);
  }

  // figures writes what is under the cursor, or else the newest, into the legend.
  figures() {
    const pointed = this.plot?.cursor.left >= 0 && this.at !== null && this.at !== undefined;
    const item = pointed ? this.items[this.at] : this.items.at(-1);
    const texts = this.series
      .filter((s) => !s.quiet)
      .map((s, i) => {
        const text = item?.metrics ? this.format(s.of(item)) : "–";
        say(this.shown[i], text);
        return `${s.label} ${text}`;
      });
    this.element.dataset.at = item ? item.time : "";
    say(this.plotText, texts.length ? texts.join(", ") : "nothing yet");
  }

  // step moves the cursor of all charts with the arrow keys.
  step(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, Escape: NaN }[event.key];
    if (move === undefined || !this.plot || !this.items.length) return;
    event.preventDefault();
    const last = this.items.length - 1;
    const index = Math.max(0, Math.min(last, (this.plot.cursor.left >= 0 ? (this.plot.cursor.idx ?? last) : last) + move));
    this.plot.setCursor(Number.isNaN(index) ? { left: -10, top: -10 } : { left: this.plot.valToPos(this.items[index].time, "x"), top: 20 });
  }
}

function decades(low, high) {
  const splits = [];
  for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e++) splits.push(Number(`1e${e}`));
  return splits;
}

function zero(u, colour) {
  const y = Math.round(u.valToPos(0, "y", true)) + 0.5;
  u.ctx.save();
  u.ctx.strokeStyle = colour;
  u.ctx.lineWidth = 1;
  u.ctx.beginPath();
  u.ctx.moveTo(u.bbox.left, y);
  u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
  u.ctx.stroke();
  u.ctx.restore();
}

// spark draws the shape of some numbers into a small canvas; null is a gap.
export function spark(canvas, points, from, to, colour) {
  const scale = devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const ctx = canvas.getContext("2d");
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const max = Math.max(...points.map(([, v]) => v ?? 0)) || 1;
  const x = (t) => ((t - from) / (to - from)) * width;
  const y = (v) => height - 1.5 - (v / max) * (height - 4);
  ctx.lineWidth = 1.25;
  ctx.lineJoin = "round";
  ctx.strokeStyle = colour;
  ctx.fillStyle = `${colour}2e`;
  let run = [];
  const flush = () => {
    if (run.length) {
      const path = new Path2D();
      run.forEach(([t, v], i) => (i ? path.lineTo(x(t), y(v)) : path.moveTo(x(t), y(v))));
      ctx.stroke(path);
      path.lineTo(x(run.at(-1)[0]), height);
      path.lineTo(x(run[0][0]), height);
      ctx.fill(path);
    }
    run = [];
  };
  for (const p of points) p[1] === null ? flush() : run.push(p);
  flush();
}
