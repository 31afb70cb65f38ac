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
import { rate } from "./stats.js";

// What the server's own kinds of work did, from the metrics with attributed in their names. A work is { name, work, catalog }.

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

// most is how many works are shown apart. The rest is one area.
export const most = 8;

const nameOf = (work, catalog) => (catalog ? `${work} ${catalog}` : work);
const is =
  ({ work, catalog }) =>
  (labels) =>
    labels.work === work && (labels.catalog ?? "") === catalog;

// byWork sums up what the works counted in the items: { sum, perSecond, rows }, where rows are works with their own sum, perSecond and share
// of the whole, the largest first, without those that counted nothing. An item in which the metric is unknown adds neither counts nor time.
export function byWork(items, id) {
  const rows = new Map();
  let seconds = 0;
  for (const item of items) {
    const metric = item.metrics?.get(id);
    if (!metric) continue;
    seconds += item.seconds;
    for (const { labels, value } of metric.series.values()) {
      const { work, catalog = "" } = labels;
      const name = nameOf(work, catalog);
      if (!rows.has(name)) rows.set(name, { name, work, catalog, sum: 0 });
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

// places gives each of the largest works a place in the stack, and with it a colour. A work keeps the place that it had before, so that what
// is on the screen stays as it is; the others take what is free, the larger ones first.
export function places(before, rows) {
  const largest = rows.slice(0, most);
  const after = Array.from({ length: most }, (_, i) => largest.find((row) => row.name === before[i]?.name));
  for (const row of largest) if (!after.includes(row)) after[after.indexOf(undefined)] = row;
  return after;
}

// parts divides the quantity among the works at those places and, if others is true, all others: [{ label, place, of(item) }], where of gives
// what was counted in a second, null if it is unknown, and place is undefined for the others.
export function parts(at, others, id) {
  const part = (keep) => (item) => rate(item, id, keep);
  const apart = at.map((row, place) => row && { label: row.name, place, of: part(is(row)) }).filter(Boolean);
  const known = at.filter(Boolean).map(is);
  return others ? [...apart, { label: "others", of: part((labels) => !known.some((one) => one(labels))) }] : apart;
}

// attributed tells whether the server attributes anything to works now.
export const attributed = (stats) => stats.metrics.some((metric) => quantities.some(({ id }) => id === `${metric.module}/${metric.name}`));

const warned = "no metric is attributed to works";

// unattributed tells why the server attributes nothing: { title, reasons }, or null if it does not say.
export function unattributed(health) {
  const warning = (health.warnings ?? []).find(({ cause }) => cause.startsWith(warned));
  if (!warning) return null;
  const cause = warning.cause.slice(warned.length).replace(/^: /, "");
  return { title: "No metric is attributed to works", reasons: [cause, warning.remedy].filter(Boolean) };
}
