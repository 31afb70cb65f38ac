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
import * as format from "./format.js";
import { absence, list } from "./modules.js";

const levels = {
  full: "counts and times all",
  sampled: "times one call of sixteen, to stay in its budget",
  reduced: "without its most expensive hook, to stay in its budget",
};

// ModulesView shows each module with its switch, its hooks and its metrics. toggle(name, on) makes the change; it rejects with a Failure.
export class ModulesView {
  constructor(container, toggle) {
    this.container = container;
    this.toggle = toggle;
    this.cards = new Map();
  }

  update(health, config, overhead) {
    const rows = list(health, config);
    for (const [name, card] of this.cards) {
      if (!rows.some((r) => r.name === name)) {
        card.element.remove();
        this.cards.delete(name);
      }
    }
    rows.forEach((row) => {
      if (!this.cards.has(row.name)) {
        const card = this.card(row.name);
        this.cards.set(row.name, card);
        this.container.append(card.element);
      }
      this.show(this.cards.get(row.name), row, config, overhead);
    });
  }

  card(name) {
    const card = { name };
    card.knob = h("button", {
      type: "button",
      role: "switch",
      class: "switch",
      "aria-labelledby": `module-${name}-name`,
      "aria-checked": "false",
      click: () => this.flip(card),
    });
    card.state = h("span", { class: "badge" });
    card.cost = h("span", { class: "cost" });
    card.bar = h("span", { class: "bar", "aria-hidden": "true" }, h("i"));
    card.cause = h("p", { class: "cause", hidden: true });
    card.error = h("p", { class: "error", role: "alert" });
    card.hooks = h("span", { class: "pills" });
    card.dots = h("span", { class: "dots", "aria-hidden": "true" });
    card.tally = h("span", { class: "tally" });
    card.body = h("div", { class: "detail" });
    card.details = h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "hidden" }, `Hooks and metrics of ${name}: `),
        card.hooks,
        h("span", { class: "verdict" }, card.dots, card.tally),
      ),
      card.body,
    );
    card.element = h(
      "li",
      { class: "module", id: `module-${name}` },
      h("div", { class: "head" }, card.knob, h("h3", { id: `module-${name}-name` }, name), card.state, card.cost, card.bar),
      card.error,
      card.cause,
      card.details,
    );
    return card;
  }

  async flip(card) {
    if (card.busy || card.knob.getAttribute("aria-disabled") === "true") return;
    const on = card.knob.getAttribute("aria-checked") !== "true";
    card.busy = true;
    card.knob.setAttribute("aria-busy", "true");
    card.knob.setAttribute("aria-checked", String(on));
    say(card.error, "");
    try {
      await this.toggle(card.name, on);
    } catch (failure) {
      card.knob.setAttribute("aria-checked", String(!on));
      say(card.error, [`${card.name} was not switched ${on ? "on" : "off"}: ${failure.message}`, failure.remedy].filter(Boolean).join(". "));
    } finally {
      card.busy = false;
      card.knob.removeAttribute("aria-busy");
    }
  }

  show(card, { name, on, health: m }, config, overhead) {
    const { read_only: readOnly } = config;
    const budget = config.config.max_overhead_percent;
    if (!card.busy) card.knob.setAttribute("aria-checked", String(on));
    card.knob.setAttribute("aria-disabled", String(readOnly));
    card.knob.title = readOnly ? "This server is read-only" : "";
    const up = on && m?.up;
    card.element.dataset.state = !on ? "disabled" : up ? "up" : "down";
    const level = up ? m.level : "";
    say(card.state, !on ? "switched off" : !m ? "not loaded" : !m.up ? "down" : level);
    card.state.title = [levels[level], m?.shed].filter(Boolean).join(": ");
    card.state.dataset.level = !on ? "disabled" : up ? level : "down";
    const percent = up ? overhead.get(name) : undefined;
    say(card.cost, up ? `${format.percent(percent)}${budget > 0 ? ` of ${budget}\u202f%` : ""}` : "");
    card.cost.title = "CPU time of the last minute, in percent of the server's";
    card.bar.hidden = !up || !(budget > 0);
    card.bar.firstChild.style.setProperty("--part", Math.min(1, (percent ?? 0) / budget || 0));
    card.bar.classList.toggle("over", percent > budget);
    const cause = on && m && !m.up ? [m.cause, m.remedy].filter(Boolean).join(". ") : "";
    say(card.cause, cause);
    card.cause.hidden = !cause;
    card.details.hidden = !m || !on || (!m.hooks.length && !m.metrics.length && !m.absent.length);
    const key = JSON.stringify([m?.hooks, m?.metrics, m?.absent, m?.disabled_hooks, m?.shed_hooks]);
    if (m && key !== card.key) {
      card.key = key;
      this.detail(card, m);
    }
  }

  detail(card, m) {
    const hooks = m.hooks.map((hook) => ({ ...hook, off: m.disabled_hooks.includes(hook.name) || m.shed_hooks.includes(hook.name) }));
    card.hooks.replaceChildren(
      ...hooks.map((hook) =>
        h(
          "span",
          {
            class: "pill",
            "data-attach": hook.off ? "disabled" : hook.attach || "none",
            title: hook.off ? "switched off" : hook.attach || "refused by this kernel",
          },
          hook.name,
          h("span", { class: "hidden" }, ` by ${hook.off ? "nothing, switched off" : hook.attach || "nothing, refused"}, `),
        ),
      ),
    );
    const here = [{ modules: [m] }, { config: { modules: [m.name] } }];
    const metrics = [...m.metrics, ...m.absent.map((name) => ({ name }))].map((x) => {
      if (x.left_out) return { name: x.name, state: "left-out", reason: x.reason };
      const why = absence(`${m.name}/${x.name}`, ...here);
      if (why) return { name: x.name, state: "absent", word: why.title.toLowerCase(), reason: why.reasons.join("; ") };
      return { name: x.name, state: x.verified ? "verified" : "unverified", reason: x.reason };
    });
    const words = { verified: "verified", unverified: "unverified", "left-out": "left out" };
    card.dots.replaceChildren(...metrics.map((x) => h("i", { "data-state": x.state, title: `${x.name}: ${x.word ?? words[x.state]}` })));
    const verified = metrics.filter((x) => x.state === "verified").length;
    say(card.tally, `${verified} of ${metrics.length} verified`);
    card.body.replaceChildren(
      h(
        "table",
        { class: "hooks" },
        h("caption", { class: "hidden" }, `Hooks of ${m.name}`),
        h("thead", { class: "hidden" }, h("tr", {}, h("th", { scope: "col" }, "Hook"), h("th", { scope: "col" }, "Attached by"))),
        h(
          "tbody",
          {},
          hooks.map((hook) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, hook.name),
              h(
                "td",
                {},
                h(
                  "span",
                  { class: "kind", "data-attach": hook.off ? "disabled" : hook.attach || "none" },
                  hook.off ? "switched off" : hook.attach || "not attached",
                ),
                hook.variant && hook.variant !== hook.attach ? h("span", { class: "quiet" }, ` ${hook.variant}`) : null,
                hook.refused.map((r) => h("p", { class: "refused" }, h("b", {}, `${r.variant} refused: `), r.cause)),
              ),
            ),
          ),
        ),
      ),
      h(
        "table",
        { class: "metrics" },
        h("caption", { class: "hidden" }, `Metrics of ${m.name}`),
        h("thead", { class: "hidden" }, h("tr", {}, h("th", { scope: "col" }, "Metric"), h("th", { scope: "col" }, "State"))),
        h(
          "tbody",
          {},
          metrics.map((x) =>
            h(
              "tr",
              { "data-state": x.state },
              h(
                "th",
                { scope: "row" },
                h("i", { "data-state": x.state, "aria-hidden": "true" }),
                x.name.replace("ebpf_", "").replace(`${m.name}_`, ""),
              ),
              h("td", {}, x.word ?? words[x.state], x.reason ? h("p", { class: "refused" }, x.reason) : null),
            ),
          ),
        ),
      ),
      h("p", { class: "quiet" }, `${format.bytes(m.map_memory_bytes)} of kernel memory`, m.missed_runs ? `, ${m.missed_runs} runs missed` : ""),
    );
  }
}
