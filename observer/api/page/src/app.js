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

import "uplot/dist/uPlot.min.css";
import "./app.css";
import { Connection } from "./connection.js";
import { byId, say } from "./dom.js";
import * as format from "./format.js";
import { History } from "./history.js";
import { absence, change, overhead } from "./modules.js";
import { ModulesView } from "./modulesview.js";
import { lastMinute, panels, vitals } from "./panels.js";
import { QueriesView } from "./queriesview.js";
import { difference, snapshot } from "./stats.js";
import { Totals } from "./totals.js";
import { WorksView } from "./worksview.js";

const span = 600;
const history = new History(span);
// What was last heard: { stats, snapshot, health, config, at (performance.now) }. It is null while there is no connection, so that no
// difference is taken over an outage.
let last = null;
let known = null;
let readings = []; // { time, cpu, health } of the last minute
let lostAt = 0;
let retryAt = 0;

const missing = (id) => (id && known ? absence(id, known.health, known.config) : null);

applyTheme();
const charts = [...panels(byId("charts"), byId("beside"), span, missing), new WorksView(byId("work"), span, () => known, missing)];
const showVitals = vitals(byId("vitals"), span, missing);
const modules = new ModulesView(byId("modules"), toggle);
const totals = new Totals(byId("totals"), byId("totals-table"));

const interval = Number(localStorage.getItem("interval")) || 2;
const connection = new Connection(interval, { data, lost, unauthorized });
const queries = new QueriesView(
  byId("queries"),
  () => connection.ask("api/v1/queries"),
  () => Boolean(last),
);
for (const input of document.querySelectorAll("input[name=interval]")) {
  input.checked = Number(input.value) === interval;
  input.addEventListener("change", () => {
    connection.interval = Number(input.value);
    localStorage.setItem("interval", input.value);
    connection.now();
  });
}
byId("retry").addEventListener("click", () => connection.now());
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  connection.token = byId("token").value;
  byId("token").value = "";
  byId("ask").close();
  connection.now();
});
// Without the token there is nothing to see: the question stays.
byId("ask").addEventListener("cancel", (event) => event.preventDefault());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && !byId("ask").open && connection.now());
setInterval(tick, 1000);
connection.now();

function data({ stats, health, config }) {
  const now = { stats, snapshot: snapshot(stats), health, config, at: performance.now() };
  const reading = { time: now.snapshot.time, cpu: now.snapshot.cpu, health };
  if (last) {
    const item = difference(last.snapshot, now.snapshot);
    if (item) {
      item.overhead = overhead(readings.at(-1), reading);
      item.budget = config.config.max_overhead_percent;
      history.add(item);
    } else if (now.snapshot.cpu < last.snapshot.cpu) {
      restarted(now.snapshot.time);
    }
  } else if (known && now.snapshot.cpu < known.snapshot.cpu) {
    restarted(now.snapshot.time);
  }
  // The server judges a module by a minute.
  if (reading.cpu < readings.at(-1)?.cpu) readings = [];
  readings.push(reading);
  while (readings.length > 2 && readings[1].time <= reading.time - 60) readings.shift();
  last = known = now;
  connected();
  render();
  queries.poll();
}

function restarted(time) {
  history.gap(time);
  say(byId("restart"), `restarted ${new Date(time * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" })}`);
}

function render() {
  const now = serverNow();
  const percents = overhead(readings[0], readings.at(-1));
  showVitals(history.items, now, lastMinute(history, percents));
  for (const chart of charts) chart.update(history.items, now);
  modules.update(known.health, known.config, percents);
  totals.update(known.stats);
  const { config, read_only: readOnly } = known.config;
  say(byId("mode"), readOnly ? "read-only" : "");
  say(
    byId("facts"),
    [
      `collects every ${config.collect_interval}`,
      config.latency_sampling > 1 ? `times one of ${config.latency_sampling} calls` : "times all calls",
      config.max_overhead_percent > 0 ? `budget ${config.max_overhead_percent}\u202f% of the CPU time for each module` : "no limit of overhead",
    ].join(" · "),
  );
  document.body.dataset.time = known.stats.time;
}

// serverNow is what the server's clock says now, as far as one can tell.
function serverNow() {
  return known.snapshot.time + (last ? 0 : (performance.now() - known.at) / 1000);
}

function connected() {
  lostAt = 0;
  document.body.dataset.connection = "connected";
  byId("lost").hidden = true;
  const states = { up: "Connected", degraded: "Connected, the metrics are not verified", down: "Connected, not all modules are up" };
  say(byId("state"), states[known.health.status]);
}

function lost(failure, wait) {
  lostAt ||= performance.now();
  retryAt = performance.now() + wait * 1000;
  last = null;
  document.body.dataset.connection = "lost";
  byId("lost").hidden = false;
  say(byId("state"), failure.status ? "The server answers with an error" : "Connection lost");
  say(byId("lost-cause"), [failure.message, failure.remedy].filter(Boolean).join(". "));
  tick();
}

function unauthorized() {
  last = null;
  document.body.dataset.connection = "unauthorized";
  say(byId("state"), "A token is needed");
  say(byId("token-error"), connection.token ? "The server did not accept this token." : "");
  if (!byId("ask").open) byId("ask").showModal();
  byId("token").focus();
}

// tick tells each second how long the connection has been lost, and moves the charts on.
function tick() {
  if (!lostAt) return;
  say(byId("lost-since"), `for ${format.ago((performance.now() - lostAt) / 1000)}`);
  say(byId("lost-retry"), `next try in ${Math.max(0, Math.ceil((retryAt - performance.now()) / 1000))} s`);
  if (!known) return;
  history.gap(serverNow());
  render();
}

// Changes are made one after the other, each from the configuration that the one before it left.
let changes = Promise.resolve();
function toggle(name, on) {
  const made = changes.then(async () => {
    try {
      known.config = await connection.post("api/v1/config", { modules: change(known.config.config.modules, name, on) });
    } catch (failure) {
      if (failure.status === 401) unauthorized();
      throw failure;
    }
  });
  changes = made.catch(() => {});
  return made.then(() => void connection.now());
}

function applyTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  const apply = () => {
    const chosen = localStorage.getItem("theme");
    document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
    button.setAttribute(
      "aria-label",
      `Theme: ${document.documentElement.dataset.theme}. Switch to ${document.documentElement.dataset.theme === "dark" ? "light" : "dark"}`,
    );
    if (known) {
      for (const chart of charts) chart.rebuild();
      render();
    }
  };
  dark.addEventListener("change", apply);
  button.addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  });
  apply();
}
