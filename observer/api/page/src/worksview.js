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
import { h, say, segments } from "./dom.js";
import * as format from "./format.js";
import { theme } from "./palette.js";
import { byKind, counted, most, parts, places, quantities, unattributed, ways } from "./works.js";

const [byWork, byFile] = ways;

// WorksView shows what each kind of work did, or was done with each kind of file: the parts over time, and below them a table of the whole
// time. It is one of the charts. known tells the last { stats, health }, and absence why a metric is not there.
export class WorksView {
  constructor(container, span, known, absence) {
    this.container = container;
    this.known = known;
    this.quantity = quantities[0];
    this.chosen = this.way = byWork;
    this.places = [];
    this.waysChoice = segments("Divided", "way", ways, (chosen) => this.choose({ chosen }));
    const options = quantities.map((quantity) => ({ value: quantity.id.replace(/.*\//, ""), label: quantity.label, title: quantity.what, quantity }));
    this.choice = h(
      "div",
      { class: "actions" },
      this.waysChoice,
      segments("Quantity", "quantity", options, ({ quantity }) => this.choose({ quantity })),
    );
    this.chart = new Chart(container, {
      id: "works",
      title: byWork.title,
      note: "",
      span,
      height: 240,
      stack: true,
      actions: [this.choice],
      // What is not counted by work is not counted by file either, for the same reason.
      absence: () => this.why ?? absence(this.quantity.id),
      series: (items) => this.series(items),
    });
    this.empty = h("p", { class: "quiet" }, "Nothing was counted in this time.");
    this.head = h("th", { scope: "col" });
    this.sum = h("td", { class: "number" });
    this.body = h("tbody");
    this.table = h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shares" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            this.head,
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
  }

  choose(what) {
    Object.assign(this, what);
    this.rebuild();
  }

  describe() {
    const { format: write, least, steps, what } = this.quantity;
    Object.assign(this.chart, { format: write, least, steps });
    say(this.chart.title, this.way.title);
    say(this.chart.note, `${what}, by ${this.way.by}`);
    say(this.head, this.way.head);
  }

  rebuild() {
    this.chart.shape = null;
    if (this.items) this.update(this.items, this.now);
  }

  update(items, now) {
    this.items = items;
    this.now = now;
    const { stats, health } = this.known();
    const attributed = counted(stats, byWork);
    this.why = attributed ? null : unattributed(health);
    this.container.hidden = !this.why && !attributed;
    this.choice.hidden = Boolean(this.why);
    this.waysChoice.hidden = !counted(stats, byFile);
    this.way = this.waysChoice.hidden ? byWork : this.chosen;
    this.describe();
    this.whole = byKind(items, this.quantity, this.way);
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
    return parts(this.places, rows.length > most, this.quantity, this.way).map((part) => ({ ...part, colour: works[part.place] ?? text }));
  }

  list() {
    const { works, text } = theme();
    const seen = new Set();
    this.whole.rows.forEach((part, at) => {
      seen.add(part.name);
      let row = this.rows.get(part.name);
      if (!row) {
        row = h(
          "tr",
          {},
          h("th", { scope: "row" }, h("i", { class: "swatch", "aria-hidden": "true" }), part.kind),
          h("td", { class: "labels" }, part.catalog),
          h("td", { class: "number" }),
          h("td", { class: "number" }),
        );
        this.rows.set(part.name, row);
      }
      const [head, , share, perSecond] = row.cells;
      const place = this.places.findIndex((one) => one?.name === part.name);
      head.firstChild.style.setProperty("--colour", works[place] ?? text);
      head.title = place < 0 ? "among the others" : "";
      say(share, format.percent(100 * part.share));
      say(perSecond, this.quantity.format(part.perSecond));
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
