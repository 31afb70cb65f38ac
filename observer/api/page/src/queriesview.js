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

import { byId, h, say } from "./dom.js";
import { columns, empty, lists, refusal } from "./queries.js";

// QueriesView shows the receipts of queries. ask asks the server for them; it rejects with a Failure. They are many, so they are asked for only
// while they can be seen.
export class QueriesView {
  constructor(section, ask, connected) {
    this.ask = ask;
    this.table = byId("queries-table");
    this.list = "most_expensive";
    for (const input of section.querySelectorAll("input[name=queries-list]")) {
      input.checked = input.value === this.list;
      input.addEventListener("change", () => {
        this.list = input.value;
        this.show();
      });
    }
    new IntersectionObserver((entries) => {
      this.visible = entries.at(-1).isIntersecting;
      if (connected()) this.poll();
    }).observe(section);
  }

  // poll asks if the section can be seen, and nothing has been asked that is not yet answered.
  async poll() {
    if (!this.visible || document.visibilityState !== "visible" || this.asking) return;
    this.asking = true;
    try {
      this.answer = await this.ask();
      this.failure = null;
    } catch (failure) {
      // That a token is needed is for the connection to say.
      if (failure.status === 401) return;
      this.failure = failure;
      // This server has no receipts. After another failure, what was told last still holds.
      if (failure.status === 501) this.answer = null;
    } finally {
      this.asking = false;
    }
    this.show();
  }

  show() {
    if (!this.answer && !this.failure) return;
    say(byId("queries-refused"), refusal(this.answer?.refused));
    const cause = this.failure ? [this.failure.message, this.failure.remedy].filter(Boolean).join(". ") : "";
    const nothing = this.answer ? empty(this.answer, this.list) : cause;
    say(byId("queries-error"), this.answer ? cause : "");
    say(byId("queries-missing"), nothing);
    byId("queries-missing").hidden = !nothing;
    this.table.parentElement.hidden = Boolean(nothing);
    if (!nothing) this.fill();
  }

  // fill writes into the cells that are there, so that the scrolling and the selection stay.
  fill() {
    const { fields, [this.list]: queries } = this.answer;
    const shown = columns(fields);
    const shape = JSON.stringify(fields);
    const body = this.table.tBodies[0];
    if (shape !== this.shape) {
      this.shape = shape;
      body.replaceChildren();
      this.table.tHead.rows[0].replaceChildren(...shown.map((c) => h("th", { scope: "col", title: c.help, class: c.number && "number" }, c.label)));
    }
    say(this.table.caption, lists[this.list]);
    queries.forEach((query, at) => {
      let row = body.rows[at];
      if (!row) body.append((row = h("tr", {}, ...shown.map((c) => h("td", { class: c.number && "number" })))));
      shown.forEach((c, i) => say(row.cells[i], c.of(query)));
      row.cells[0].title = query.time;
    });
    while (body.rows.length > queries.length) body.deleteRow(-1);
  }
}
