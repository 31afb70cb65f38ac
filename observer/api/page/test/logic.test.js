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

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { backoff, Connection } from "../src/connection.js";
import * as format from "../src/format.js";
import { edges, heat, shade } from "../src/heat.js";
import { History, shown } from "../src/history.js";
import { absence, change, list, overhead } from "../src/modules.js";
import { columns, empty, figure, refusal } from "../src/queries.js";
import { cumulate, difference, histogram, merge, quantile, rate, seconds, snapshot, total } from "../src/stats.js";
import { exact } from "../src/totals.js";
import { byKind, counted, most, parts, places, quantities, unattributed, ways } from "../src/works.js";

const narrow = (text) => text.replaceAll("\u202f", " ");
const stats = (at, cpu, metrics) => snapshot({ time: new Date(at * 1000).toISOString(), process_cpu_seconds: cpu, metrics });
const counter = (series) => ({
  name: "calls",
  module: "io",
  kind: "counter",
  series: Object.entries(series).map(([op, value]) => ({ labels: { op }, value })),
});
const times = (count, sum, buckets) => ({
  name: "times",
  module: "io",
  kind: "histogram",
  bounds: [1, 2, 4],
  series: [{ labels: { op: "read" }, count, sum, buckets }],
});

test("a time keeps its nanoseconds, whatever its zone", () => {
  assert.equal(seconds("1970-01-01T00:00:01.25Z"), 1.25);
  assert.equal(seconds("1970-01-01T01:00:01.000000250+01:00"), 1.00000025);
  assert.equal(seconds("1970-01-01T00:00:07Z"), 7);
});

test("a rate is the growth for each second, of the chosen series", () => {
  const d = difference(stats(10, 1, [counter({ read: 5, write: 1 })]), stats(12, 2, [counter({ read: 9, write: 11 })]));
  assert.equal(rate(d, "io/calls"), 7);
  assert.equal(
    rate(d, "io/calls", (l) => l.op === "read"),
    2,
  );
  assert.equal(d.cpu, 1);
});

test("a series that appears has grown from 0, and one that never counted is 0", () => {
  const d = difference(stats(10, 1, [counter({})]), stats(11, 1, [counter({ read: 3 })]));
  assert.equal(total(d, "io/calls"), 3);
  assert.equal(
    total(d, "io/calls", (l) => l.op === "write"),
    0,
  );
});

test("a metric that comes or goes is unknown, not 0", () => {
  const without = stats(10, 1, []);
  const having = stats(11, 1, [counter({ read: 3 })]);
  assert.equal(rate(difference(without, having), "io/calls"), null);
  assert.equal(rate(difference(stats(10, 1, [counter({ read: 3 })]), stats(11, 1, [])), "io/calls"), null);
  assert.equal(histogram(difference(without, having), "io/times"), null);
});

test("a counter that begins anew is unknown, never negative", () => {
  assert.equal(rate(difference(stats(10, 1, [counter({ read: 9 })]), stats(11, 1, [counter({ read: 3 })])), "io/calls"), null);
  assert.equal(rate(difference(stats(10, 1, [counter({ read: 9 })]), stats(11, 1, [counter({})])), "io/calls"), null);
  const fell = difference(stats(10, 1, [times(5, 9, [1, 3, 5, 5])]), stats(11, 1, [times(6, 9, [0, 3, 6, 6])]));
  assert.equal(histogram(fell, "io/times"), null);
  // One bucket has less than before though all cumulated ones have more.
  assert.equal(histogram(difference(stats(10, 1, [times(5, 9, [0, 3, 5, 5])]), stats(11, 1, [times(9, 9, [4, 4, 9, 9])])), "io/times"), null);
});

test("a restart of the server and a clock that goes back make no difference", () => {
  assert.equal(difference(stats(10, 5, [counter({ read: 1 })]), stats(11, 1, [counter({ read: 30 })])), null);
  assert.equal(difference(stats(10, 1, []), stats(10, 2, [])), null);
});

test("a gauge is as it stands", () => {
  const gauge = (value) => ({ name: "pages", module: "memory", kind: "gauge", series: [{ labels: { kind: "anon" }, value }] });
  const a = difference(stats(10, 1, [gauge(9)]), stats(11, 1, [gauge(4)]));
  assert.equal(total(a, "memory/pages"), 4);
  assert.equal(total(merge([a, a]), "memory/pages"), 4);
});

test("differences add up", () => {
  const a = stats(10, 1, [counter({ read: 1 }), times(0, 0, [0, 0, 0, 0])]);
  const b = stats(11, 2, [counter({ read: 4 }), times(2, 3, [1, 2, 2, 2])]);
  const c = stats(13, 4, [counter({ read: 8, write: 2 }), times(5, 9, [1, 3, 5, 5])]);
  const whole = merge([difference(a, b), { time: 11.5 }, difference(b, c)]);
  assert.deepEqual(histogram(whole, "io/times"), { bounds: [1, 2, 4], count: 5, sum: 9, buckets: [1, 3, 5, 5] });
  assert.equal(rate(whole, "io/calls"), 3);
  assert.equal(whole.cpu, 3);
  assert.equal(rate(merge([]), "io/calls"), null);
});

test("quantiles are those of histogram_quantile", () => {
  const bounds = [1, 2, 4];
  assert.equal(quantile(0.5, { bounds, buckets: [0, 10, 10, 10] }), 1.5);
  assert.equal(quantile(0.5, { bounds, buckets: [10, 10, 10, 10] }), 0.5);
  assert.equal(quantile(0.99, { bounds, buckets: [0, 0, 100, 100] }), 3.98);
  assert.equal(quantile(0.75, { bounds, buckets: [2, 4, 8, 8] }), 3);
  assert.equal(quantile(0.25, { bounds, buckets: [2, 4, 8, 8] }), 1);
  assert.equal(quantile(0.99, { bounds, buckets: [0, 0, 0, 5] }), 4);
  assert.equal(quantile(0.5, { bounds, buckets: [0, 0, 0, 0] }), null);
});

test("the history keeps its span and no more", () => {
  const history = new History(600);
  for (let t = 1; t <= 700; t++) history.add({ time: t, metrics: new Map() });
  assert.equal(history.items.length, 600);
  assert.equal(history.items[0].time, 101);
  assert.equal(history.last(60).length, 60);
});

test("a gap moves on, and gives way to what the server says", () => {
  const history = new History(600);
  history.gap(1);
  assert.equal(history.items.length, 0);
  const item = (time) => ({ time, seconds: 1, metrics: new Map() });
  history.add(item(1));
  history.gap(3);
  history.gap(9);
  assert.deepEqual(
    history.items.map((i) => i.time),
    [1, 9],
  );
  history.add(item(8));
  assert.deepEqual(
    history.items.map((i) => [i.time, Boolean(i.metrics)]),
    [
      [1, true],
      [7, false],
      [8, true],
    ],
  );
  history.add(item(4));
  assert.deepEqual(
    history.items.map((i) => i.time),
    [4],
  );
  history.gap(5);
  history.add(item(4.5));
  assert.deepEqual(
    history.items.map((i) => i.time),
    [4, 4.5],
  );
});

test("the heat map has each call once, in its slot and its bucket", () => {
  const a = stats(0, 1, [times(0, 0, [0, 0, 0, 0])]);
  const b = stats(10, 2, [times(30, 3, [10, 30, 30, 30])]);
  const c = stats(20, 3, [times(40, 3, [10, 30, 30, 40])]);
  const map = heat([difference(a, b), difference(b, c)], "io/times", undefined, 0, 40, 8);
  assert.deepEqual(map.columns, [
    { from: 0, to: 5, rates: [1, 2, 0, 0] },
    { from: 5, to: 10, rates: [1, 2, 0, 0] },
    { from: 10, to: 15, rates: [0, 0, 0, 1] },
    { from: 15, to: 20, rates: [0, 0, 0, 1] },
  ]);
  assert.deepEqual([map.max, map.low, map.high], [2, 0, 3]);
  const wide = heat([difference(a, b), difference(b, c)], "io/times", undefined, 0, 20, 1);
  assert.deepEqual(wide.columns, [{ from: 0, to: 20, rates: [0.5, 1, 0, 0.5] }]);
  // A slot that is known in part is not paler for it.
  const part = heat([difference(a, b)], "io/times", undefined, 0, 40, 1);
  assert.deepEqual(part.columns[0].rates, [1, 2, 0, 0]);
  assert.deepEqual(heat([{ time: 5 }], "io/times", undefined, 0, 40, 1).columns, []);
});

test("the open buckets are drawn as wide as the others", () => {
  assert.deepEqual(edges([1, 2, 4], 0), [0.5, 1]);
  assert.deepEqual(edges([1, 2, 4], 1), [1, 2]);
  assert.deepEqual(edges([1, 2, 4], 3), [4, 8]);
});

test("one call among thousands is seen", () => {
  assert.equal(shade(0, 10), 0);
  assert.equal(shade(10, 10), 1);
  assert.ok(shade(0.001, 1000) >= 0.04);
  assert.ok(shade(5, 10) > shade(1, 10));
});

const module = (name, rest) => ({
  name,
  up: true,
  disabled: false,
  cause: "",
  remedy: "",
  absent: [],
  disabled_hooks: [],
  shed_hooks: [],
  hooks: [],
  metrics: [],
  overhead_seconds: 0,
  ...rest,
});
const config = (modules, readOnly = false) => ({ config: { modules }, available: ["block", "io"], read_only: readOnly });

test("a switch changes one module and no other", () => {
  assert.deepEqual(change(["io", "cache"], "block", true), ["io", "cache", "block"]);
  assert.deepEqual(change(["io", "cache"], "io", false), ["cache"]);
  assert.deepEqual(change(["io"], "io", true), ["io"]);
  assert.deepEqual(change(["io"], "block", false), ["io"]);
});

test("the list has what is available and what only the health names", () => {
  const rows = list({ modules: [module("own"), module("io")] }, config(["io"]));
  assert.deepEqual(
    rows.map((r) => [r.name, r.on, Boolean(r.health)]),
    [
      ["block", false, false],
      ["io", true, true],
      ["own", false, true],
    ],
  );
});

test("what is absent has its reason", () => {
  const hook = {
    name: "lookup",
    attach: "",
    variant: "",
    refused: [{ variant: "tp_btf", attach: "tp_btf", cause: "no such tracepoint" }],
    metrics: ["calls"],
  };
  const attached = { ...hook, name: "size", attach: "fentry", variant: "fentry" };
  const foreign = { ...hook, name: "other", metrics: ["others"] };
  const of = (m, c = config(["io"])) => absence("io/calls", { modules: m ? [m] : [] }, c);
  assert.equal(of(module("io")), null);
  assert.equal(of(module("io", { hooks: [foreign], disabled_hooks: ["other"] })), null);
  const refused = { title: "Not available on this kernel", reasons: ["lookup: tp_btf: no such tracepoint"] };
  assert.deepEqual(of(module("io", { absent: ["calls"], hooks: [hook, foreign] })), refused);
  assert.deepEqual(of(module("io", { absent: ["calls"], hooks: [hook], disabled_hooks: ["lookup"] })), refused);
  assert.deepEqual(of(module("io", { metrics: [{ name: "calls", left_out: true, reason: "counted 1 of 2" }] })).reasons, [
    "Left out, since it counted wrong: counted 1 of 2",
  ]);
  assert.deepEqual(of(module("io", { up: false, cause: "no BTF", remedy: "" })), { title: "Module io is down", reasons: ["no BTF"] });
  assert.equal(of(module("io"), config([])).title, "Module io is switched off");
  assert.deepEqual(of(module("io"), config([], true)).reasons, []);
  assert.equal(of(null).title, "Module io is not loaded");
  // One hook is enough; if the kernel took one, the operator is the reason.
  assert.equal(of(module("io", { hooks: [hook, attached] })), null);
  assert.deepEqual(of(module("io", { hooks: [hook, attached], disabled_hooks: ["size"] })), {
    title: "Switched off",
    reasons: ["Hook size is switched off."],
  });
});

test("the charts show as much time as is known, in steps", () => {
  const at = (seconds) => shown([{ time: 1000 - seconds + 2, seconds: 2 }], 1000, 600);
  assert.deepEqual([shown([], 1000, 600), at(2), at(120), at(121), at(300), at(301), at(3000)], [120, 120, 120, 300, 300, 600, 600]);
  assert.equal(shown([{ time: 990 }], 1000, 600), 120);
});

test("overhead is in percent of the process's CPU time", () => {
  const reading = (cpu, spent) => ({ cpu, health: { modules: [module("io", { overhead_seconds: spent })] } });
  assert.deepEqual([...overhead(reading(10, 1), reading(20, 1.25))], [["io", 2.5]]);
  assert.deepEqual([...overhead(reading(10, 1), reading(10, 1.25))], []);
  assert.deepEqual([...overhead(reading(10, 1), reading(20, 0.5))], []);
  assert.deepEqual([...overhead({ cpu: 10, health: { modules: [] } }, reading(20, 1))], []);
});

test("waiting grows, up to half a minute", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 9].map((n) => backoff(2, n)),
    [2, 4, 8, 16, 30],
  );
});

test("figures have three digits that count", () => {
  assert.equal(narrow(format.duration(2.4567e-3)), "2.46 ms");
  assert.equal(narrow(format.duration(0.99999e-3)), "1.00 ms");
  assert.equal(narrow(format.duration(256e-9)), "256 ns");
  assert.equal(narrow(format.duration(0)), "0 s");
  assert.equal(format.duration(null), "–");
  assert.equal(narrow(format.bytes(1536)), "1.50 KiB");
  assert.equal(format.count(0), "0");
  assert.equal(narrow(format.count(999.7)), "1.00 k");
  assert.equal(narrow(format.percent(0.001)), "< 0.01 %");
  assert.equal(narrow(exact(1234567)), "1 234 567");
  assert.equal(exact(0.0001234), "0.0001234");
  assert.equal(narrow(exact(12345.6789)), "12 345.6789");
  assert.equal(format.ago(75), "1 min 15 s");
});

const [spent] = quantities;
const [byWork, byFile] = ways;
// worked is an item of the history, in which works counted so much, by name and catalog, in two classes.
const worked = (works, length = 1) => ({
  seconds: length,
  metrics: new Map([
    [
      spent.id,
      {
        kind: "counter",
        series: new Map(
          Object.entries(works).flatMap(([name, value]) => {
            const [work, catalog = ""] = name.split(" ");
            return ["read", "other"].map((kind) => [`${name} ${kind}`, { labels: { work, catalog, class: kind }, value: value / 2 }]);
          }),
        ),
      },
    ],
  ]),
});

test("each work has what all its series counted, in the time in which the metric was known", () => {
  const unknown = [{ time: 5 }, { seconds: 7, metrics: new Map() }];
  const items = [worked({ "merge measure": 4, "merge stream": 2, other: 0 }), ...unknown, worked({ "merge measure": 2, runtime: 8 }, 3)];
  assert.deepEqual(byKind(items, spent, byWork), {
    sum: 16,
    perSecond: 4,
    rows: [
      { name: "runtime", kind: "runtime", catalog: "", sum: 8, share: 0.5, perSecond: 2 },
      { name: "merge measure", kind: "merge", catalog: "measure", sum: 6, share: 0.375, perSecond: 1.5 },
      { name: "merge stream", kind: "merge", catalog: "stream", sum: 2, share: 0.125, perSecond: 0.5 },
    ],
  });
  assert.deepEqual(byKind([], spent, byWork), { sum: 0, perSecond: null, rows: [] });
  assert.deepEqual(byKind([{ time: 5 }], spent, byWork).rows, []);
  // Those of the same size stand in the order of their names.
  assert.deepEqual(
    byKind([worked({ flush: 1, write: 1, merge: 1, query: 2 })], spent, byWork).rows.map((r) => r.name),
    ["query", "flush", "merge", "write"],
  );
});

test("the eight largest works are shown apart, and all parts are the whole", () => {
  const many = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`work${i} measure`, i + 1]));
  const items = [worked(many, 2), { time: 3 }, worked({ "work0 measure": 100, "work0 stream": 7, other: 1 }), { seconds: 1, metrics: new Map() }];
  const { rows } = byKind(items, spent, byWork);
  const at = places([], rows);
  assert.deepEqual(
    at.map((row) => row.name),
    ["work0 measure", "work11 measure", "work10 measure", "work9 measure", "work8 measure", "work7 measure", "work0 stream", "work6 measure"],
  );
  const shown = parts(at, rows.length > most, spent, byWork);
  assert.equal(shown.length, most + 1);
  assert.deepEqual([shown.at(-1).label, shown.at(-1).place], ["others", undefined]);
  for (const item of items) {
    const each = shown.map((part) => part.of(item));
    if (!item.metrics?.get(spent.id)) assert.ok(each.every((n) => n === null));
    else assert.equal(each.reduce((sum, n) => sum + n, 0), rate(item, spent.id));
  }
  assert.equal(shown.at(-1).of(items[0]), (2 + 3 + 4 + 5 + 6) / 2);
  // The top of the stack is the whole.
  const values = shown.map((part) => items.map((item) => part.of(item)));
  assert.deepEqual(
    cumulate(values).at(-1),
    items.map((item) => rate(item, spent.id)),
  );
});

test("eight works or fewer leave no others", () => {
  const { rows } = byKind([worked({ merge: 3, "query stream": 1 })], spent, byWork);
  const shown = parts(places([], rows), rows.length > most, spent, byWork);
  assert.deepEqual(
    shown.map((part) => [part.label, part.place, part.of(worked({ merge: 3, "query stream": 1, "query trace": 9 }, 2))]),
    [
      ["merge", 0, 1.5],
      ["query stream", 1, 0.5],
    ],
  );
  assert.deepEqual(parts(places([], []), false, spent, byWork), []);
});

test("a kind of file has what was counted for all groups, and all kinds are what the works are", () => {
  const metric = (name, series) => ({ module: "io", name, kind: "counter", series: series.map(([labels, value]) => ({ labels, value })) });
  const works = (sum) => metric("ebpf_io_attributed_seconds_total", [[{ work: "other", catalog: "", class: "read" }, sum]]);
  const file = (catalog, kind, group, value) => [{ catalog, kind, group, class: "read" }, value];
  const files = (...series) => metric("ebpf_io_file_seconds_total", series);
  const known = [
    [works(0)],
    // What is counted by file is known from its first count on.
    [works(6), files(file("trace", "spans", "a", 2), file("trace", "spans", "b", 3), file("", "none", "", 1))],
    [works(10), files(file("trace", "spans", "a", 2), file("trace", "spans", "b", 3), file("", "none", "", 1.5), file("stream", "index", "c", 3.5))],
    [works(10), files(file("trace", "spans", "a", 2), file("trace", "spans", "b", 3), file("", "none", "", 1.5), file("stream", "index", "c", 3.5))],
    [],
  ].map((metrics, at) => stats(at, at, metrics));
  const items = known.slice(1).map((after, i) => difference(known[i], after));
  const byKinds = byKind(items, spent, byFile);
  assert.deepEqual(
    byKinds.rows.map(({ name, kind, catalog, sum, share }) => [name, kind, catalog, sum, share]),
    [
      ["trace spans", "spans", "trace", 5, 0.5],
      ["stream index", "index", "stream", 3.5, 0.35],
      ["none", "none", "", 1.5, 0.15],
    ],
  );
  const { sum, perSecond } = byKind(items, spent, byWork);
  assert.deepEqual([byKinds.sum, byKinds.perSecond], [sum, perSecond]);
  assert.deepEqual(
    parts(places([], byKinds.rows), false, spent, byFile).map((part) => [part.label, ...items.map(part.of)]),
    [
      ["trace spans", 5, 0, 0, null],
      ["stream index", 0, 3.5, 0, null],
      ["none", 1, 0.5, 0, null],
    ],
  );
  assert.equal(counted({ metrics: [works(0)] }, byFile), false);
  assert.equal(counted({ metrics: [works(0), files()] }, byFile), true);
});

test("a work keeps its place, and a new one takes a free one", () => {
  const named = (...names) => names.map((name) => ({ name }));
  const names = (at) => at.map((row) => row?.name ?? "");
  const first = places([], named("a", "b", "c"));
  assert.deepEqual(names(first), ["a", "b", "c", "", "", "", "", ""]);
  const second = places(first, named("c", "d", "a"));
  assert.deepEqual(names(second), ["a", "d", "c", "", "", "", "", ""]);
  const full = places(second, named("e", "f", "g", "h", "i", "d", "c", "j", "a"));
  assert.deepEqual(names(full), ["e", "d", "c", "f", "g", "h", "i", "j"]);
});

test("areas lie on top of each other, and what is unknown stays so", () => {
  assert.deepEqual(
    cumulate([
      [1, null, 0],
      [2, null, 5],
      [0, null, 1],
    ]),
    [
      [1, null, 0],
      [3, null, 5],
      [3, null, 6],
    ],
  );
  assert.deepEqual(cumulate([]), []);
});

test("that nothing is attributed has the server's reason", () => {
  const [module, name] = spent.id.split("/");
  assert.equal(counted({ metrics: [{ module, name, series: [] }] }, byWork), true);
  assert.equal(counted({ metrics: [{ module: "own", name, series: [] }, { module, name: "ebpf_io_bytes_total", series: [] }] }, byWork), false);
  const other = { cause: "nothing could be verified", remedy: "" };
  const warning = { cause: "no metric is attributed to works: no symbol runtime.allgs", remedy: "build the server anew" };
  assert.deepEqual(unattributed({ warnings: [other, warning] }), {
    title: "No metric is attributed to works",
    reasons: ["no symbol runtime.allgs", "build the server anew"],
  });
  assert.equal(unattributed({ warnings: [other] }), null);
  assert.equal(unattributed({}), null);
});

test("a query is told in milliseconds, bytes and counts", () => {
  assert.deepEqual(
    [0, 4e-7, 2.5e-6, 0.0123456, 0.5, 12.3456].map((s) => narrow(figure(s, "seconds"))),
    ["0 ms", "< 0.001 ms", "0.003 ms", "12.3 ms", "500 ms", "12346 ms"],
  );
  assert.equal(format.milliseconds(null), "–");
  assert.equal(narrow(figure(1536, "bytes")), "1.50 KiB");
  assert.equal(narrow(figure(12345, "")), "12 345");
  assert.equal(narrow(figure(7, "pages")), "7");
  assert.equal(figure(undefined, "seconds"), "–");
  const fields = [
    { name: "io_read_bytes", unit: "bytes", help: "Bytes that calls read." },
    { name: "io_read_seconds", unit: "seconds", help: "Time in calls that read." },
    { name: "cache_filled_pages", unit: "pages", help: "Pages." },
  ];
  const query = {
    time: "2026-01-05T10:00:00.123456789Z",
    catalog: "stream",
    group: "g",
    name: "n",
    duration_seconds: 0.25,
    waited_seconds: 0.002,
    receipt: { io_read_bytes: 2048, io_read_seconds: 0.002 },
  };
  const told = columns(fields).map((c) => [c.label, narrow(c.of(query))]);
  assert.match(told[0][1], /^\d\d:\d\d:\d\d$/);
  assert.deepEqual(told.slice(1), [
    ["Catalog", "stream"],
    ["Group", "g"],
    ["Name", "n"],
    ["Duration", "250 ms"],
    ["Waited", "2.00 ms"],
    ["io read bytes", "2.00 KiB"],
    ["io read seconds", "2.00 ms"],
    ["cache filled pages", "–"],
  ]);
  assert.ok(columns(fields).every((c) => c.help));
  assert.equal(columns(fields).at(-1).help, "Pages.");
});

test("a list without queries says so, and how many have no receipt is told", () => {
  assert.equal(empty({ newest: [], most_expensive: [] }, "newest"), "No query has a receipt yet.");
  assert.equal(empty({ newest: [], most_expensive: [] }, "most_expensive"), "No query has a receipt yet.");
  assert.equal(empty({ newest: [{}], most_expensive: [] }, "most_expensive"), "No query of the last hour has a receipt.");
  assert.equal(empty({ newest: [{}], most_expensive: [] }, "newest"), "");
  assert.equal(refusal(0), "");
  assert.equal(refusal(undefined), "");
  assert.equal(refusal(1), "1 query has no receipt, because too many were under way at once.");
  assert.equal(narrow(refusal(1234)), "1 234 queries have no receipt, because too many were under way at once.");
});

test("a change has as long as the server gives it, and all else ten seconds", async () => {
  globalThis.sessionStorage = { getItem: () => null };
  const timeout = mock.method(AbortSignal, "timeout", () => null);
  mock.method(globalThis, "fetch", async () => new Response("{}"));
  try {
    const connection = new Connection(1, {});
    await connection.ask("health");
    await connection.post("api/v1/config", {});
    assert.deepEqual(
      timeout.mock.calls.map((call) => call.arguments),
      [[10_000], [300_000]],
    );
  } finally {
    mock.restoreAll();
    delete globalThis.sessionStorage;
  }
});
