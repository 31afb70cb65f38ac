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

import { h, say } from "./dom.js";
import { seriesKey } from "./stats.js";

// exact writes a number as it came, its whole part in groups of three.
export function exact(n) {
  return String(n).replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, "\u202f"));
}

// Totals is the table of all series as the last answer of /api/v1/stats had them; its data-time is that answer's.
export class Totals {
  constructor(details, table) {
    this.details = details;
    this.body = table.tBodies[0];
    this.rows = new Map();
    this.table = table;
    details.addEventListener("toggle", () => this.stats && this.update(this.stats));
  }

  update(stats) {
    this.stats = stats;
    if (!this.details.open) return;
    const seen = new Set();
    let at = 0;
    for (const metric of stats.metrics) {
      for (const series of metric.series) {
        const key = `${metric.module}/${metric.name}{${seriesKey(series.labels)}}`;
        seen.add(key);
        let row = this.rows.get(key);
        if (!row) {
          const labels = Object.entries(series.labels ?? {})
            .map(([k, v]) => `${k}=${v}`)
            .join(" ");
          row = h(
            "tr",
            { "data-metric": metric.name, "data-module": metric.module, "data-labels": JSON.stringify(series.labels ?? {}), title: metric.help },
            h("th", { scope: "row" }, metric.name.replace(/^ebpf_/, "")),
            h("td", { class: "labels" }, labels),
            h("td", { class: "number" }),
            h("td", { class: "number" }),
          );
          this.rows.set(key, row);
        }
        const [, , count, sum] = row.cells;
        say(count, exact(metric.kind === "histogram" ? series.count : series.value));
        say(sum, metric.kind === "histogram" ? exact(series.sum) : "");
        if (this.body.rows[at] !== row) this.body.insertBefore(row, this.body.rows[at] ?? null);
        at++;
      }
    }
    for (const [key, row] of this.rows) {
      if (seen.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    this.table.dataset.time = stats.time;
  }
}
