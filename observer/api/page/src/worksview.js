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

import { Chart } from "./chart.js";
import { h, say } from "./dom.js";
import * as format from "./format.js";
import { theme } from "./palette.js";
import { attributed, byWork, most, parts, places, quantities, unattributed } from "./works.js";

// WorksView shows what each kind of work did: the parts over time, and below them a table of the whole time. It is one of the charts. known
// tells the last { stats, health }, and absence why a metric is not there.
export class WorksView {
  constructor(container, span, known, absence) {
    this.container = container;
    this.known = known;
    this.quantity = quantities[0];
    this.places = [];
    this.choice = h(
      "div",
      { class: "actions" },
      h(
        "fieldset",
        { class: "segments" },
        h("legend", { class: "hidden" }, "Quantity"),
        quantities.map((quantity) =>
          h(
            "label",
            { title: quantity.what },
            h("input", {
              type: "radio",
              name: "quantity",
              value: quantity.id.replace(/.*\//, ""),
              checked: quantity === this.quantity,
              change: () => this.choose(quantity),
            }),
            h("span", {}, quantity.label),
          ),
        ),
      ),
    );
    this.chart = new Chart(container, {
      id: "works",
      title: "Whose work it was",
      note: "",
      span,
      height: 240,
      stack: true,
      actions: [this.choice],
      absence: () => this.why ?? absence(this.quantity.id),
      series: (items) => this.series(items),
    });
    this.empty = h("p", { class: "quiet" }, "Nothing was counted in this time.");
    this.sum = h("td", { class: "number" });
    this.body = h("tbody");
    this.table = h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shares of the works" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Work"),
            h("th", { scope: "col" }, "Catalog"),
            h("th", { scope: "col", class: "number" }, "Share"),
            h("th", { scope: "col", class: "number" }, "Per second"),
          ),
        ),
        this.body,
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "all"), h("td"), h("td", { class: "number" }, format.percent(100)), this.sum)),
      ),
    );
    this.chart.element.append(this.empty, this.table);
    this.rows = new Map();
    this.describe();
  }

  choose(quantity) {
    this.quantity = quantity;
    this.describe();
    this.rebuild();
  }

  describe() {
    const { format: write, least, steps, what } = this.quantity;
    Object.assign(this.chart, { format: write, least, steps });
    say(this.chart.note, `${what}, by kind of work`);
  }

  rebuild() {
    this.chart.shape = null;
    if (this.items) this.update(this.items, this.now);
  }

  update(items, now) {
    this.items = items;
    this.now = now;
    const { stats, health } = this.known();
    this.why = attributed(stats) ? null : unattributed(health);
    this.container.hidden = !this.why && !attributed(stats);
    this.choice.hidden = Boolean(this.why);
    this.whole = byWork(items, this.quantity.id);
    this.places = places(this.places, this.whole.rows);
    this.chart.update(items, now);
    const shown = this.chart.missing.hidden;
    this.table.hidden = !shown || !this.whole.rows.length;
    this.empty.hidden = !shown || !this.table.hidden;
    if (!this.table.hidden) this.list();
  }

  series() {
    const { works, text } = theme();
    const { rows } = this.whole;
    return parts(this.places, rows.length > most, this.quantity.id).map((part) => ({ ...part, colour: works[part.place] ?? text }));
  }

  list() {
    const { works, text } = theme();
    const seen = new Set();
    this.whole.rows.forEach((work, at) => {
      seen.add(work.name);
      let row = this.rows.get(work.name);
      if (!row) {
        row = h(
          "tr",
          {},
          h("th", { scope: "row" }, h("i", { class: "swatch", "aria-hidden": "true" }), work.work),
          h("td", { class: "labels" }, work.catalog),
          h("td", { class: "number" }),
          h("td", { class: "number" }),
        );
        this.rows.set(work.name, row);
      }
      const [head, , share, perSecond] = row.cells;
      const place = this.places.findIndex((one) => one?.name === work.name);
      head.firstChild.style.setProperty("--colour", works[place] ?? text);
      head.title = place < 0 ? "among the others" : "";
      say(share, format.percent(100 * work.share));
      say(perSecond, this.quantity.format(work.perSecond));
      if (this.body.rows[at] !== row) this.body.insertBefore(row, this.body.rows[at] ?? null);
    });
    for (const [name, row] of this.rows) {
      if (seen.has(name)) continue;
      row.remove();
      this.rows.delete(name);
    }
    say(this.sum, this.quantity.format(this.whole.perSecond));
  }
}
