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

import { Chart, spark } from "./chart.js";
import { h, say, segments } from "./dom.js";
import * as format from "./format.js";
import { edges, heat, shade } from "./heat.js";
import { shown } from "./history.js";
import { families, ofOp, ramp, theme } from "./palette.js";
import { histogram, merge, quantile, rate, total } from "./stats.js";

const duration = "io/ebpf_io_duration_seconds";
const operations = "io/ebpf_io_operations_total";
const moved = "io/ebpf_io_bytes_total";
const filled = "cache/ebpf_cache_filled_pages_total";
const deleted = "cache/ebpf_cache_deleted_pages_total";
const regret = "cache/ebpf_cache_regret_pages_total";
const advised = "io/ebpf_io_fadvise_total";
const reclaim = "memory/ebpf_memory_reclaim_duration_seconds";
const faults = "memory/ebpf_memory_page_fault_duration_seconds";
const waited = "sched/ebpf_sched_run_queue_wait_seconds_total";
const ran = "sched/ebpf_sched_cpu_seconds_total";

const secondsPerSecond = format.perSecond(format.duration);

// busiest returns the values of a label that counted most in the history, the first so many of them, in the order of their names, so that the
// colours stay where they are.
function busiest(items, id, label, most) {
  const sums = new Map();
  for (const item of items) {
    for (const s of item.metrics?.get(id)?.series.values() ?? []) sums.set(s.labels[label], (sums.get(s.labels[label]) ?? 0) + s.value);
  }
  const sorted = [...sums]
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, most);
  return sorted.map(([value]) => value).sort();
}

// quantileOf is a quantile of the chosen series of a histogram, null if there is no such metric or nothing was counted.
const quantileOf = (item, q, id, keep) => {
  const whole = histogram(item, id, keep);
  return whole && quantile(q, whole);
};

// panels makes the charts, that of the overhead beside the modules. absence tells of a metric why it is not there.
export function panels(container, beside, span, absence) {
  const latency = latencyPanel(container, span, absence);
  const lines = (options, where = container) => new Chart(where, { span, ...options, absence: () => absence(options.needs) });
  return [
    latency,
    lines({
      id: "operations",
      title: "Operations",
      note: "system calls that returned",
      format: format.perSecond(format.count),
      needs: operations,
      series: (items) => {
        const ops = busiest(items, operations, "op", 7);
        return [
          ...ops.map((op) => ({ label: op, colour: ofOp(op), of: (i) => rate(i, operations, (l) => l.op === op) })),
          { label: "others", colour: theme().text, dash: [3, 3], of: (i) => rate(i, operations, (l) => !ops.includes(l.op)) },
        ];
      },
    }),
    lines({
      id: "bytes",
      title: "Bytes",
      note: "read above, written below",
      format: format.perSecond(format.bytes),
      needs: moved,
      least: 1024,
      steps: Array.from({ length: 41 }, (_, n) => 2 ** n),
      series: (items) =>
        busiest(items, moved, "op", 8).map((op) => ({
          label: op,
          colour: ofOp(op),
          fill: true,
          down: families.write.includes(op),
          of: (i) => rate(i, moved, (l) => l.op === op),
        })),
    }),
    lines({
      id: "cache",
      title: "Page cache",
      note: "pages filled above, deleted below",
      format: format.perSecond(format.count),
      needs: filled,
      least: 10,
      series: () => [
        { label: "filled", colour: theme().read[0], fill: true, of: (i) => rate(i, filled) },
        { label: "deleted", colour: theme().write[0], fill: true, down: true, of: (i) => rate(i, deleted) },
        { label: "needed again", colour: theme().sync[0], of: (i) => rate(i, regret) },
      ],
    }),
    lines({
      id: "fadvise",
      title: "fadvise",
      note: "calls by advice",
      format: format.perSecond(format.count),
      needs: advised,
      least: 1,
      series: (items) => {
        const advices = busiest(items, advised, "advice", 6);
        const order = ["dontneed", "willneed", "sequential", "random", "normal", "noreuse"];
        return advices.map((advice) => ({
          label: advice,
          colour: theme().advise[Math.max(0, order.indexOf(advice))],
          fill: advice === "dontneed",
          of: (i) => rate(i, advised, (l) => l.advice === advice),
        }));
      },
    }),
    lines({
      id: "reclaim",
      title: "Reclaim stalls",
      note: "threads stand still for memory",
      format: secondsPerSecond,
      needs: reclaim,
      least: 0.001,
      series: () =>
        [
          ["direct", "the host's memory", theme().sync[0]],
          ["memcg", "the container's limit", theme().write[0]],
        ].map(([kind, label, colour]) => ({
          label,
          colour,
          fill: true,
          of: (i) => sumRate(i, reclaim, (l) => l.kind === kind),
        })),
    }),
    lines({
      id: "sched",
      title: "Run queue",
      note: "wait for a CPU against running on one",
      format: secondsPerSecond,
      needs: waited,
      least: 0.01,
      series: () => [
        { label: "waited", colour: theme().sync[0], fill: true, of: (i) => rate(i, waited) },
        { label: "ran", colour: theme().read[0], of: (i) => rate(i, ran) },
      ],
    }),
    lines(
      {
        id: "overhead",
        title: "Overhead",
        note: "of the server's CPU time",
        format: format.percent,
        least: 0.01,
        needs: null,
        series: (items) => {
          const names = [...new Set(items.flatMap((i) => [...(i.overhead?.keys() ?? [])]))].sort();
          const t = theme();
          const colours = [t.read[0], t.write[0], t.advise[0], t.map[0], t.sync[0], t.name[0], t.read[1], t.write[1], t.map[1]];
          const budget = items.at(-1)?.budget;
          return [
            ...names.map((name, n) => ({ label: name, colour: colours[n % colours.length], of: (i) => i.overhead?.get(name) ?? null })),
            ...(budget > 0 ? [{ label: "budget of each", colour: t.budget, dash: [5, 4], of: (i) => (i.budget > 0 ? i.budget : null) }] : []),
          ];
        },
      },
      beside,
    ),
  ];
}

function sumRate(item, id, keep) {
  const whole = histogram(item, id, keep);
  return whole && whole.sum / item.seconds;
}

const groups = [
  { value: "read", label: "Read" },
  { value: "write", label: "Write" },
  { value: "sync", label: "Fsync" },
];

function latencyPanel(container, span, absence) {
  let family = groups[0].value;
  let only = "";
  let range = [1e-6, 1e-1];
  let chart;
  const keep = (l) => (only ? l.op === only : families[family].includes(l.op));
  const select = h("select", {
    id: "latency-op",
    "aria-label": "System call",
    change: () => {
      only = select.value;
      chart.rebuild();
    },
  });
  const choice = segments("Kind of call", "family", groups, ({ value }) => {
    family = value;
    only = "";
    fill();
    chart.rebuild();
  });
  const fill = () =>
    select.replaceChildren(h("option", { value: "" }, "all of them"), ...families[family].map((op) => h("option", { value: op }, op)));
  fill();

  let picture;
  let colour = ramp();
  const draw = (u) => {
    if (!picture?.bounds) return;
    const { left, top, width, height } = u.bbox;
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    for (const column of picture.columns) {
      const x0 = Math.round(u.valToPos(column.from, "x", true));
      const x1 = Math.round(u.valToPos(column.to, "x", true));
      column.rates.forEach((r, i) => {
        if (r <= 0) return;
        const [low, high] = edges(picture.bounds, i);
        const y0 = Math.round(u.valToPos(high, "y", true));
        const y1 = Math.round(u.valToPos(low, "y", true));
        ctx.fillStyle = colour(shade(r, picture.max));
        // A hair of ground between the rows makes them legible as buckets.
        ctx.fillRect(x0, y0, x1 - x0, Math.max(1, y1 - y0 - 1));
      });
    }
    ctx.restore();
  };

  chart = new Chart(container, {
    id: "latency",
    title: "Latency",
    note: "each cell: how many calls, by time and duration",
    span,
    height: 320,
    format: format.duration,
    actions: [
      h(
        "div",
        { class: "actions" },
        h("span", { class: "scale", "aria-hidden": "true" }, h("span", {}, "few"), h("i"), h("span", {}, "many")),
        choice,
        select,
      ),
    ],
    absence: () => absence(duration),
    log: () => range,
    under: draw,
    series: (items) => {
      const t = theme();
      colour = ramp();
      const { from, now: to } = chart;
      const slots = Math.max(60, Math.min(300, Math.floor((chart.canvas.clientWidth - 70) / 3), Math.floor((to - from) / 2)));
      picture = heat(items, duration, keep, from, to, slots);
      if (picture.bounds && picture.high >= 0) {
        range = [edges(picture.bounds, Math.max(0, picture.low - 1))[0], edges(picture.bounds, Math.min(picture.bounds.length, picture.high + 1))[1]];
      }
      const p = (q) => (i) => quantileOf(i, q, duration, keep);
      return [
        { label: "halo 50", colour: `${t.ground}b0`, width: 4, quiet: true, of: p(0.5) },
        { label: "halo 99", colour: `${t.ground}b0`, width: 4, quiet: true, of: p(0.99) },
        { label: "p50", colour: t.p50, of: p(0.5) },
        { label: "p99", colour: t.p99, width: 1.75, of: p(0.99) },
      ];
    },
  });
  return chart;
}

const ratio = (a, b) => (a === null || b === null ? null : b > 0 ? a / b : 0);
const isOp = (op) => (l) => l.op === op;
const isMajor = (l) => l.kind === "major";
const standsStill = (l) => l.kind === "direct" || l.kind === "memcg";

// The figures to begin with, in the order in which to read them: what is felt, why, and what the observation costs. Warn and bad are from
// what docs/metrics.md says of the normal.
const tiles = [
  {
    id: "fsync",
    group: "felt",
    label: "fsync p99",
    hint: "writes wait for it",
    needs: duration,
    format: format.duration,
    of: (i) => quantileOf(i, 0.99, duration, isOp("fsync")),
    hue: "sync",
  },
  {
    id: "pread",
    group: "felt",
    label: "pread p99",
    hint: "queries wait for it",
    needs: duration,
    format: format.duration,
    of: (i) => quantileOf(i, 0.99, duration, isOp("pread")),
    hue: "read",
  },
  {
    id: "fault",
    group: "felt",
    label: "Major fault p99",
    hint: "the index waits for it",
    needs: faults,
    format: format.duration,
    of: (i) => quantileOf(i, 0.99, faults, isMajor),
    hue: "map",
  },
  {
    id: "wait",
    group: "why",
    label: "CPU wait",
    hint: "of the time it runs",
    needs: [waited, ran],
    format: (x) => format.percent(x === null ? x : 100 * x),
    of: (i) => ratio(total(i, waited), total(i, ran)),
    warn: 0.1,
    bad: 1,
    hue: "write",
  },
  {
    id: "stall",
    group: "why",
    label: "Reclaim stall",
    hint: "felt above 10 ms/s",
    needs: reclaim,
    format: secondsPerSecond,
    of: (i) => sumRate(i, reclaim, standsStill),
    warn: 0.001,
    bad: 0.01,
    hue: "sync",
  },
  {
    id: "regret",
    group: "why",
    label: "Dropped too early",
    hint: "of the pages filled",
    needs: [regret, filled],
    format: (x) => format.percent(x === null ? x : 100 * x),
    of: (i) => ratio(total(i, regret), total(i, filled)),
    warn: 0.1,
    bad: 0.5,
    hue: "write",
  },
  {
    id: "calls",
    group: "load",
    label: "System calls",
    hint: "that are counted",
    needs: operations,
    format: format.perSecond(format.count),
    of: (i) => rate(i, operations),
    hue: "advise",
  },
  {
    id: "cost",
    group: "load",
    label: "Overhead",
    hint: "of all modules",
    needs: null,
    format: format.percent,
    of: (i) => (i.overhead?.size ? [...i.overhead.values()].reduce((a, b) => a + b, 0) : null),
    hue: "map",
  },
];

// vitals makes the row of figures of the last minute, each with its shape over the whole history.
export function vitals(container, span, absence) {
  const made = tiles.map((tile) => {
    const figure = h("span", { class: "value" }, "–");
    const canvas = h("canvas", { "aria-hidden": "true" });
    const hint = h("span", { class: "hint" }, tile.hint);
    const element = h(
      "li",
      { class: "tile", id: `tile-${tile.id}`, "data-group": tile.group },
      h("span", { class: "label" }, tile.label),
      figure,
      hint,
      canvas,
    );
    container.append(element);
    return { ...tile, figure, canvas, element, hintText: hint };
  });
  return (items, now, minute) => {
    for (const tile of made) {
      const missing = [tile.needs].flat().map(absence).find(Boolean);
      const value = missing ? null : tile.of(minute);
      say(tile.figure, missing ? missing.title : tile.format(value));
      say(tile.hintText, missing ? missing.reasons.join(" ") : tile.hint);
      tile.element.classList.toggle("absent", Boolean(missing));
      tile.element.dataset.level = value === null || !tile.warn ? "" : value >= tile.bad ? "bad" : value >= tile.warn ? "warn" : "good";
      spark(
        tile.canvas,
        items.map((i) => [i.time, i.metrics && !missing ? tile.of(i) : null]),
        now - shown(items, now, span),
        now,
        theme()[tile.hue][0],
      );
    }
  };
}

// lastMinute adds up the history's last minute. Its overhead is of the whole minute, as the server judges it.
export function lastMinute(history, overhead) {
  const whole = merge(history.last(60));
  whole.overhead = overhead;
  return whole;
}
