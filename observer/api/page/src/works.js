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

import * as format from "./format.js";
import { idByFile, rate } from "./stats.js";

// What the server's own kinds of work did, from the metrics with attributed in their names, and with which kinds of files, from those with
// file in their names. Both count the same.

// ways are how a quantity can be divided: by the catalog and by the label that is named by value. Id is that of the metric, and name is what
// a part is called.
export const ways = [
  {
    value: "work",
    label: "By work",
    title: "Whose work it was",
    by: "kind of work",
    head: "Work",
    id: (quantity) => quantity.id,
    name: (work, catalog) => `${work} ${catalog}`.trim(),
  },
  {
    value: "kind",
    label: "By kind of file",
    title: "Which files were used",
    by: "kind of file",
    head: "Kind of file",
    id: (quantity) => idByFile(quantity.id),
    name: (kind, catalog) => `${catalog} ${kind}`.trim(),
  },
];

// quantities are what can be chosen. Least and steps are those of Chart.
export const quantities = [
  {
    id: "io/ebpf_io_attributed_seconds_total",
    label: "System calls",
    what: "time in system calls",
    format: format.perSecond(format.duration),
    least: 1e-4,
  },
  {
    id: "io/ebpf_io_attributed_bytes_total",
    label: "Bytes",
    what: "bytes read and written",
    format: format.perSecond(format.bytes),
    least: 1024,
    steps: Array.from({ length: 41 }, (_, n) => 2 ** n),
  },
  {
    id: "cache/ebpf_cache_attributed_filled_pages_total",
    label: "Pages filled",
    what: "pages added to the page cache",
    format: format.perSecond(format.count),
    least: 10,
  },
  {
    id: "cache/ebpf_cache_attributed_regret_pages_total",
    label: "Regret",
    what: "pages needed again after they were dropped",
    format: format.perSecond(format.count),
    least: 1,
  },
  {
    id: "memory/ebpf_memory_attributed_page_fault_seconds_total",
    label: "Page faults",
    what: "time in page faults",
    format: format.perSecond(format.duration),
    least: 1e-4,
  },
];

// most is how many kinds are shown apart. The rest is one area.
export const most = 8;

const is =
  ({ kind, catalog }, way) =>
  (labels) =>
    labels[way.value] === kind && (labels.catalog ?? "") === catalog;

// byKind sums up what was counted in the items: { sum, perSecond, rows }, where rows are the kinds of work or of files, { name, kind, catalog },
// with their own sum, perSecond and share of the whole, the largest first, without those of which nothing was counted. An item in which the
// metric is unknown adds neither counts nor time.
export function byKind(items, quantity, way) {
  const id = way.id(quantity);
  const rows = new Map();
  let seconds = 0;
  for (const item of items) {
    const metric = item.metrics?.get(id);
    if (!metric) continue;
    seconds += item.seconds;
    for (const { labels, value } of metric.series.values()) {
      const { [way.value]: kind, catalog = "" } = labels;
      const name = way.name(kind, catalog);
      if (!rows.has(name)) rows.set(name, { name, kind, catalog, sum: 0 });
      rows.get(name).sum += value;
    }
  }
  const counted = [...rows.values()].filter((row) => row.sum > 0).sort((a, b) => b.sum - a.sum || (a.name < b.name ? -1 : 1));
  const sum = counted.reduce((n, row) => n + row.sum, 0);
  return {
    sum,
    perSecond: seconds > 0 ? sum / seconds : null,
    rows: counted.map((row) => ({ ...row, share: row.sum / sum, perSecond: row.sum / seconds })),
  };
}

// places gives each of the largest kinds a place in the stack, and with it a colour. A kind keeps the place that it had before, so that what
// is on the screen stays as it is; the others take what is free, the larger ones first.
export function places(before, rows) {
  const largest = rows.slice(0, most);
  const after = Array.from({ length: most }, (_, i) => largest.find((row) => row.name === before[i]?.name));
  for (const row of largest) if (!after.includes(row)) after[after.indexOf(undefined)] = row;
  return after;
}

// parts divides the quantity among the kinds at those places and, if others is true, all others: [{ label, place, of(item) }], where of gives
// what was counted in a second, null if it is unknown, and place is undefined for the others.
export function parts(at, others, quantity, way) {
  const id = way.id(quantity);
  const part = (keep) => (item) => rate(item, id, keep);
  const apart = at.map((row, place) => row && { label: row.name, place, of: part(is(row, way)) }).filter(Boolean);
  const known = at.filter(Boolean).map((row) => is(row, way));
  return others ? [...apart, { label: "others", of: part((labels) => !known.some((one) => one(labels))) }] : apart;
}

// counted tells whether the server counts any quantity in that way now.
export const counted = (stats, way) =>
  stats.metrics.some((metric) => quantities.some((quantity) => way.id(quantity) === `${metric.module}/${metric.name}`));

const warned = "no metric is attributed to works";

// unattributed tells why the server attributes nothing: { title, reasons }, or null if it does not say.
export function unattributed(health) {
  const warning = (health.warnings ?? []).find(({ cause }) => cause.startsWith(warned));
  if (!warning) return null;
  const cause = warning.cause.slice(warned.length).replace(/^: /, "");
  return { title: "No metric is attributed to works", reasons: [cause, warning.remedy].filter(Boolean) };
}
