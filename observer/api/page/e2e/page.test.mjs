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

// The page in Chromium. With PAGE_URL (and PAGE_TOKEN) it is a real server's, which may be changed and has some load; without, the fake
// one's, and then errors are made too. PAGE_CONTROL is a URL whose /pause, /resume, /end, /start, /calm and /load do that to the
// real server and its load.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, beforeEach, afterEach, describe, test } from "node:test";
import * as format from "../src/format.js";
import { browser, open, work } from "./browser.mjs";
import { Fake } from "./fake.mjs";

const real = process.env.PAGE_URL;
const control = process.env.PAGE_CONTROL;
const switched = process.env.PAGE_MODULE ?? "cache";
const axe = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const plain = (text) => text.replaceAll("\u202f", "");
const text = (page, selector) => page.locator(selector).innerText();
const charts = ["latency", "operations", "bytes", "cache", "fadvise", "reclaim", "sched", "overhead", "works"];

// polls waits until the page has shown so many more answers, and returns the newest shown.
async function polls(page, answers, more) {
  const until = answers.length + more;
  await waitFor(() => answers.length >= until);
  await page.waitForFunction((time) => document.body.dataset.time >= time, answers[until - 1].time);
  const shown = await page.evaluate(() => document.body.dataset.time);
  await waitFor(() => answers.some((a) => a.time === shown));
  return answers.find((a) => a.time === shown);
}

async function waitFor(condition, patience = 300_000) {
  const end = Date.now() + patience;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${condition}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

// ask asks the server as the page does, and returns { status, body }.
async function ask(page, path) {
  return page.evaluate(async (of) => {
    const token = sessionStorage["banyandb-ebpf-token"];
    const answer = await fetch(of, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    return { status: answer.status, body: await answer.json() };
  }, path);
}

// toQueries scrolls to the queries, and waits until they are told.
async function toQueries(page) {
  await page.locator("#queries").scrollIntoViewIfNeeded();
  await page.waitForSelector("#queries-missing:visible, #queries-table tbody tr");
}

// order has something done to the real server, and waits for it.
async function order(what) {
  const answer = await fetch(new URL(what, control), { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

let chromium;
let fake;
let url = real;
before(async () => (chromium = await browser()));
after(() => chromium?.close());
beforeEach(async () => {
  if (real) return;
  fake = await new Fake().listen();
  url = fake.url;
});
afterEach(async () => {
  for (const page of chromium.context.pages()) await page.close();
  await fake?.close();
  fake = undefined;
});

// show opens the page with the shortest interval and, if the server wants it, the token.
async function show(path = url) {
  const init = ([token]) => {
    localStorage.setItem("interval", "1");
    if (token) sessionStorage.setItem("banyandb-ebpf-token", token);
  };
  const opened = await open(chromium.context, path, (page) => page.addInitScript(init, [real ? process.env.PAGE_TOKEN : ""]));
  return opened;
}

describe("with a server", () => {
  test("it loads, asks only its own server, and says nothing on the console", async () => {
    const { page, faults, answers } = await show();
    await polls(page, answers, 2);
    const { status } = await ask(page, "health");
    assert.equal(await text(page, "#state"), status === 503 ? "Connected, not all modules are up" : "Connected");
    for (const id of charts) assert.ok((await page.locator(`#${id} canvas, #${id} .missing:not([hidden])`).count()) > 0, id);
    assert.deepEqual(faults, []);
  });

  test("each total is that of /api/v1/stats at the same moment", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 1);
    await page.locator("#totals > summary").click();
    for (let round = 0; round < 3; round++) {
      await polls(page, answers, 1);
      const shown = await page.evaluate(() => ({
        time: document.querySelector("#totals-table").dataset.time,
        rows: [...document.querySelectorAll("#totals-table tbody tr")].map((r) => ({
          module: r.dataset.module,
          metric: r.dataset.metric,
          labels: r.dataset.labels,
          total: r.cells[2].textContent,
          sum: r.cells[3].textContent,
        })),
      }));
      await waitFor(() => answers.some((a) => a.time === shown.time));
      const answer = answers.find((a) => a.time === shown.time);
      const want = answer.metrics.flatMap((m) =>
        m.series.map((s) => ({
          module: m.module,
          metric: m.name,
          labels: JSON.stringify(s.labels ?? {}),
          total: String(m.kind === "histogram" ? s.count : s.value),
          sum: m.kind === "histogram" ? String(s.sum) : "",
        })),
      );
      assert.ok(want.length > 10);
      assert.deepEqual(
        shown.rows.map((r) => ({ ...r, total: plain(r.total), sum: plain(r.sum) })),
        want,
      );
    }
  });

  test("the figures of the last minute are those of the answers that the page got", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 5);
    const { shown, time } = await page.evaluate(() => ({
      time: document.body.dataset.time,
      shown: Object.fromEntries([...document.querySelectorAll(".tile")].map((t) => [t.id, t.querySelector(".value").textContent])),
    }));
    const [from, to] = [answers[0], answers.find((a) => a.time === time)];
    const seconds =
      (Date.parse(to.time.slice(0, 19) + "Z") - Date.parse(from.time.slice(0, 19) + "Z")) / 1000 +
      Number(`0${/\.\d+/.exec(to.time) ?? ""}`) -
      Number(`0${/\.\d+/.exec(from.time) ?? ""}`);
    const pick = (stats, name, labels) =>
      stats.metrics.find((m) => m.name === name)?.series.filter((s) => Object.entries(labels).every(([k, v]) => s.labels[k] === v)) ?? [];
    const sum = (stats, name, labels = {}) => pick(stats, name, labels).reduce((n, s) => n + s.value, 0);
    const p99 = (name, labels) => {
      const { bounds } = to.metrics.find((m) => m.name === name);
      const at = (stats, i) => pick(stats, name, labels).reduce((n, s) => n + s.buckets[i], 0);
      const grown = [...bounds, Infinity].map((_, i) => at(to, i) - at(from, i));
      const rank = 0.99 * grown.at(-1);
      if (!rank) return null;
      for (let i = 0; i < bounds.length; i++) {
        if (grown[i] < rank) continue;
        const [low, under] = i ? [bounds[i - 1], grown[i - 1]] : [0, 0];
        return low + ((bounds[i] - low) * (rank - under)) / (grown[i] - under);
      }
      return bounds.at(-1);
    };
    const has = (name) => to.metrics.some((m) => m.name === name);
    const calls = (sum(to, "ebpf_io_operations_total") - sum(from, "ebpf_io_operations_total")) / seconds;
    assert.equal(shown["tile-calls"], `${format.count(calls)}/s`);
    assert.equal(shown["tile-pread"], format.duration(p99("ebpf_io_duration_seconds", { op: "pread" })));
    assert.equal(shown["tile-fsync"], format.duration(p99("ebpf_io_duration_seconds", { op: "fsync" })));
    if (has("ebpf_sched_cpu_seconds_total")) {
      const grown = (name) => sum(to, name) - sum(from, name);
      const ran = grown("ebpf_sched_cpu_seconds_total");
      assert.equal(shown["tile-wait"], format.percent(ran > 0 ? (100 * grown("ebpf_sched_run_queue_wait_seconds_total")) / ran : 0));
    }
    assert.ok(calls > 0);
  });

  test("it moves with load", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 3);
    const before = await page.locator("#operations .plot canvas").evaluate((c) => c.toDataURL());
    await polls(page, answers, 2);
    assert.notEqual(await page.locator("#operations .plot canvas").evaluate((c) => c.toDataURL()), before);
    if (real && !control) return;
    // What the chart's legend says is of the newest answer.
    const number = (shown) => parseFloat(plain(shown)) * (/k/.test(shown) ? 1000 : 1);
    const rate = async () => (await page.locator("#operations .figure").allInnerTexts()).reduce((sum, shown) => sum + number(shown), 0);
    await (fake ? (fake.load = 0.1) : order("calm"));
    await polls(page, answers, 2);
    const calm = await rate();
    await (fake ? (fake.load = 2) : order("load"));
    await waitFor(async () => (await rate()) > 2 * calm);
    assert.ok(calm > 0);
  });

  test("a module is switched off and on, and its counts go on", async () => {
    const { page, faults, answers } = await show();
    const first = await polls(page, answers, 2);
    const knob = page.locator(`#module-${switched} [role=switch]`);
    assert.equal(await knob.getAttribute("aria-checked"), "true");
    const count = (stats) =>
      Math.max(0, ...stats.metrics.filter((m) => m.module === switched && m.kind === "counter").flatMap((m) => m.series.map((s) => s.value)));
    await knob.focus();
    // The switch takes no press while a change is on its way, and the metrics may be gone before it has been answered.
    const press = async (on) => {
      await page.keyboard.press("Space");
      await waitFor(async () => (await knob.getAttribute("aria-busy")) === null);
      await waitFor(async () => (await knob.getAttribute("aria-checked")) === String(on));
      await waitFor(() => answers.at(-1).metrics.some((m) => m.module === switched) === on);
    };
    await press(false);
    const { body } = await ask(page, "api/v1/config");
    assert.ok(!body.config.modules.includes(switched));
    if (switched === "cache") await waitFor(async () => (await text(page, "#cache .missing")).startsWith("Module cache is switched off"));
    await press(true);
    await polls(page, answers, 2);
    assert.ok(count(answers.at(-1)) >= count(first));
    await waitFor(() => page.locator("#cache .plot").isVisible());
    assert.deepEqual(faults, []);
  });

  // The narrowest page is where texts of a real kernel could be too long; what else axe looks at is the same with the fake one.
  for (const width of real ? [320] : [320, 400, 1600]) {
    test(`nothing is wider than ${width} px, and axe finds no fault, dark and light`, async () => {
      const { page, answers } = await show();
      await page.setViewportSize({ width, height: 900 });
      await polls(page, answers, 2);
      await toQueries(page);
      await page.locator("#totals > summary").click();
      for (const details of await page.locator(".module details:visible > summary").all()) await details.click();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
      for (const scheme of ["dark", "light"]) {
        await page.emulateMedia({ colorScheme: scheme });
        await waitFor(() => page.evaluate((s) => document.documentElement.dataset.theme === s, scheme));
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run());
        assert.deepEqual(
          violations.map(
            (v) =>
              `${v.id}: ${v.nodes
                .slice(0, 4)
                .map((n) => `${n.target} ${n.any[0]?.message ?? ""}`)
                .join("; ")}`,
          ),
          [],
          scheme,
        );
      }
    });
  }
});

describe("with a real server that fails", { skip: !control }, () => {
  test("one that stands still is missed, and comes back by itself", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 2);
    const before = await page.evaluate(() => document.body.dataset.time);
    await order("pause");
    try {
      await page.waitForSelector("body[data-connection=lost]");
      assert.equal(await text(page, "#state"), "Connection lost");
      assert.equal(await text(page, "#lost-cause"), "no answer for 10 seconds");
    } finally {
      await order("resume");
    }
    await page.waitForSelector("body[data-connection=connected]");
    assert.ok(!(await page.locator("#lost").isVisible()));
    await polls(page, answers, 2);
    assert.ok((await page.evaluate(() => document.body.dataset.time)) > before);
    assert.equal(await text(page, "#restart"), "");
  });

  test("one that ends is missed, and is known again when it was started anew", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 2);
    await order("end");
    try {
      await page.waitForSelector("body[data-connection=lost]");
      assert.equal(await text(page, "#lost-cause"), "the server cannot be reached");
    } finally {
      await order("start");
    }
    await page.waitForSelector("body[data-connection=connected]", { timeout: 300_000 });
    assert.match(await text(page, "#restart"), /^restarted \d\d:\d\d:\d\d$/);
    await polls(page, answers, 2);
    assert.doesNotMatch((await page.locator(".figure").allInnerTexts()).join(), /−/);
  });
});

describe("with a real server that wants a token", { skip: !process.env.PAGE_TOKEN }, () => {
  test("the page asks for it, and shows nothing before", async () => {
    const { page, answers } = await open(chromium.context, real);
    await page.waitForSelector("dialog[open]");
    assert.equal(await text(page, "#state"), "A token is needed");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await waitFor(async () => (await text(page, "#token-error")) === "The server did not accept this token.");
    assert.deepEqual(answers, []);
    await page.keyboard.type(process.env.PAGE_TOKEN);
    await page.keyboard.press("Enter");
    await page.waitForSelector("body[data-connection=connected]");
    await polls(page, answers, 2);
    assert.ok(!(await page.locator("dialog").isVisible()));
  });
});

describe("with a server that fails", { skip: Boolean(real) }, () => {
  // timed opens the page with its clock in our hands.
  async function timed() {
    fake.step = 1;
    const opened = await open(chromium.context, url, async (page) => {
      await page.clock.install();
      await page.addInitScript(() => localStorage.setItem("interval", "1"));
    });
    await opened.page.waitForSelector("body[data-connection=connected]");
    await work(opened.page, 5);
    return opened;
  }

  // figures walks the cursor through all items of a chart by the keyboard, and returns what its legend said, oldest first.
  async function figures(page, chart) {
    await page.locator(`#${chart} .plot`).focus();
    await page.keyboard.press("Home");
    const said = [];
    let at;
    for (;;) {
      await page.clock.runFor(1);
      const now = await page.locator(`#${chart}`).getAttribute("data-at");
      if (now === at) break;
      at = now;
      said.push(await page.locator(`#${chart} .figure`).allInnerTexts());
      await page.keyboard.press("ArrowRight");
    }
    await page.keyboard.press("Escape");
    return said;
  }

  test("a lost connection is shown with its time, and comes back by itself, with a gap in the charts", async () => {
    const { page } = await timed();
    assert.ok(!(await page.locator("#lost").isVisible()));
    fake.down = true;
    // What the page asks; the browser may try a request again on a connection that was closed.
    let asked = 0;
    let failed = 0;
    page.on("request", (r) => r.url().endsWith("/api/v1/stats") && asked++);
    page.on("requestfailed", (r) => r.url().endsWith("/api/v1/stats") && failed++);
    for (let i = 0; i < 20; i++) {
      await page.clock.runFor(1000);
      await page.waitForTimeout(15);
      await waitFor(() => failed === asked);
    }
    assert.equal(await text(page, "#state"), "Connection lost");
    // The page's clock goes on by itself too, on a busy machine by seconds.
    assert.match(await text(page, "#lost"), /^No connection for [12]\d s\s+the server cannot be reached\s+next try in \d+ s\s+Try now$/);
    // 1, then after 1, 2, 4 and 8 seconds: not each second.
    assert.ok(asked >= 4 && asked <= 5, String(asked));
    fake.down = false;
    await waitFor(async () => {
      await page.clock.runFor(1000);
      return page.locator("body[data-connection=connected]").count();
    });
    assert.ok(!(await page.locator("#lost").isVisible()));
    assert.equal(await text(page, "#state"), "Connected");
    await work(page, 3);
    const said = await figures(page, "sched");
    assert.equal(said.filter((f) => f[0] === "–").length, 1, JSON.stringify(said));
    assert.notEqual(said[0][0], "–");
    assert.notEqual(said.at(-1)[0], "–");
  });

  test("the button tries at once", async () => {
    const { page } = await timed();
    const asking = new Set();
    page.on("request", (r) => asking.add(r));
    for (const end of ["requestfinished", "requestfailed"]) page.on(end, (r) => asking.delete(r));
    fake.down = true;
    await waitFor(async () => {
      await page.clock.runFor(1000);
      return page.locator("#lost").isVisible();
    });
    // The clock stands: once this is answered, only the button asks again.
    await waitFor(() => asking.size === 0);
    fake.down = false;
    await page.locator("#retry").click();
    await page.waitForSelector("body[data-connection=connected]");
  });

  test("an error of the server is shown with its cause and remedy", async () => {
    const { page } = await timed();
    fake.status = 500;
    await waitFor(async () => {
      await page.clock.runFor(1000);
      return page.locator("#lost").isVisible();
    });
    assert.equal(await text(page, "#state"), "The server answers with an error");
    assert.equal(await text(page, "#lost-cause"), "the snapshot cannot be read. look at the server's log");
    fake.status = 0;
    await waitFor(async () => {
      await page.clock.runFor(1000);
      return page.locator("body[data-connection=connected]").count();
    });
  });

  test("a restart of the server gives a gap and no negative rate", async () => {
    const { page } = await timed();
    fake.restart();
    await work(page, 4);
    assert.match(await text(page, "#restart"), /^restarted \d\d:\d\d:\d\d$/);
    for (const chart of ["operations", "bytes", "sched", "latency"]) {
      const said = await figures(page, chart);
      assert.equal(said.filter((f) => f.every((x) => x === "–")).length, 1, `${chart} ${JSON.stringify(said)}`);
      assert.ok(!said.flat().some((x) => x.startsWith("−")), chart);
    }
  });

  test("without the token it asks for it, and keeps the right one for the session", async () => {
    fake.token = "secret";
    const { page } = await show();
    await page.waitForSelector("dialog[open]");
    assert.equal(await page.evaluate(() => document.activeElement.id), "token");
    // What the page has asked for at once is still being refused when the first refusal opens the dialog.
    await page.waitForLoadState("networkidle");
    const asked = fake.requests.length;
    await page.waitForTimeout(1500);
    assert.equal(fake.requests.length, asked);
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await waitFor(async () => (await text(page, "#token-error")) === "The server did not accept this token.");
    await page.keyboard.type("secret");
    await page.keyboard.press("Enter");
    await page.waitForSelector("body[data-connection=connected]");
    assert.ok(!(await page.locator("dialog").isVisible()));
    assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }).includes("secret")), false);
    await page.reload();
    await page.waitForSelector("body[data-connection=connected]");
  });

  test("a switch that fails falls back and says why", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 1);
    fake.refuse = "attaching start: permission denied";
    const knob = page.locator("#module-block [role=switch]");
    await knob.click();
    await waitFor(
      async () =>
        (await text(page, "#module-block .error")) === "block was not switched on: attaching start: permission denied. see banyand ebpf plan",
    );
    assert.equal(await knob.getAttribute("aria-checked"), "false");
    assert.ok(await page.locator("#module-block .error[role=alert]").isVisible());
    fake.refuse = "";
    await knob.click();
    await waitFor(() => fake.modules.includes("block"));
    await waitFor(async () => (await text(page, "#module-block .badge")) === "full");
    assert.equal(await text(page, "#module-block .error"), "");
  });

  test("two switches one after the other both hold", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 1);
    await page.evaluate(() => ["io", "sched"].forEach((m) => document.querySelector(`#module-${m} [role=switch]`).click()));
    await waitFor(() => fake.modules.join() === "cache,memory");
    await waitFor(async () => (await text(page, "#module-sched .badge")) === "switched off");
    assert.equal(await text(page, "#module-io .badge"), "switched off");
  });

  test("a read-only server's switches do nothing", async () => {
    fake.readOnly = true;
    const { page, answers } = await show();
    await polls(page, answers, 1);
    assert.equal(await text(page, "#mode"), "read-only");
    const knob = page.locator("#module-io [role=switch]");
    assert.equal(await knob.getAttribute("aria-disabled"), "true");
    await knob.click({ force: true });
    await polls(page, answers, 1);
    assert.equal(await knob.getAttribute("aria-checked"), "true");
    assert.ok(!fake.requests.some((r) => r.method === "POST"));
  });

  test("what this kernel lacks is named with the reason, and is not shown as zero", async () => {
    fake.refused.push("fill");
    fake.leftOut.push("ebpf_memory_reclaim_duration_seconds");
    const { page, answers } = await show();
    await polls(page, answers, 2);
    assert.equal(await text(page, "#cache .missing strong"), "Not available on this kernel");
    assert.match(await text(page, "#cache .missing"), /fill: tp_btf: no tracepoint for fill in this kernel; tracepoint: opening/);
    assert.doesNotMatch(await text(page, "#cache .missing"), /lookup|wait_time/);
    assert.ok(!(await page.locator("#cache .plot").isVisible()));
    assert.match(await text(page, "#reclaim .missing"), /Left out, since it counted wrong: counted 12, and 16 were made/);
    assert.equal(await text(page, "#tile-stall .value"), "Not available on this kernel");
    assert.equal(await text(page, "#tile-regret .value"), "Not available on this kernel");
    await page.locator("#module-cache summary").focus();
    await page.keyboard.press("Enter");
    const detail = await text(page, "#module-cache .detail");
    assert.match(detail, /tracepoint refused: opening events\/fill\/id: no such file/);
    assert.match(detail, /refaults_total\s+left out\s+counted 12, and 16 were made/);
    assert.match(detail, /filled_pages_total\s+not available on this kernel\s+fill: tp_btf/);
    assert.match(detail, /lookup\s+switched off/);
    assert.match(detail, /lookups_total\s+switched off\s+Hook lookup is switched off/);
    assert.match(detail, /dirtied_pages_total\s+verified/);
  });

  test("a module that is down says why, and the rest goes on", async () => {
    fake.broken = "memory";
    fake.shed = "io";
    const { page, answers } = await show();
    await polls(page, answers, 2);
    assert.equal(await text(page, "#state"), "Connected, not all modules are up");
    assert.equal(await text(page, "#module-memory .badge"), "down");
    assert.equal(await text(page, "#module-memory .cause"), "loading: operation not permitted. give the server CAP_BPF");
    assert.equal(await text(page, "#module-io .badge"), "sampled");
    assert.ok(await page.locator("#operations .plot").isVisible());
  });

  test("text of the server is never HTML", async () => {
    fake.broken = "<img src=x onerror=alert(1)>";
    fake.available.push(fake.broken);
    fake.modules.push(fake.broken);
    fake.costs.set(fake.broken, 0);
    Object.assign(fake.receipts[0], { group: fake.broken, catalog: fake.broken, name: fake.broken });
    const { page, answers, faults } = await show();
    await polls(page, answers, 1);
    await toQueries(page);
    await page.locator("input[name=queries-list][value=newest]").check({ force: true });
    assert.equal(await text(page, "#queries-table tbody tr:first-child td:nth-child(3)"), fake.broken);
    assert.equal(await page.locator("img").count(), 1);
    assert.deepEqual(faults, []);
  });

  // divided chooses a quantity, and returns what is shown of it by work and by kind of file, and the figures of the chart of bytes. No answer
  // of the server comes in between.
  async function divided(page, quantity) {
    return page.evaluate((of) => {
      const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
      document.querySelector(`input[name=quantity][value$=attributed_${of}_total]`).click();
      return ["work", "kind"].map((way) => {
        document.querySelector(`input[name=way][value=${way}]`).click();
        return {
          title: texts("#works h2").join(),
          note: texts("#works .note").join(),
          heads: texts("#works thead th"),
          parts: texts("#works .legend li > span:not(.figure)"),
          rows: [...document.querySelectorAll("#works tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
          all: texts("#works tfoot td:last-child").join(),
          figures: texts("#works .figure"),
          bytes: texts("#bytes .figure"),
        };
      });
    }, quantity);
  }

  test("the parts are the whole, by work and by kind of file, for each quantity", async () => {
    const { page } = await timed();
    await work(page, 3);
    const size = { ns: 1e-9, µs: 1e-6, ms: 1e-3, s: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, k: 1e3 };
    const number = (shown) => parseFloat(shown) * (size[/\u202f(\S+)\/s$/.exec(shown)?.[1]] ?? 1);
    const sum = (all) => all.reduce((n, shown) => n + number(shown), 0);
    // Three digits of each are shown.
    const near = (got, want, what) => assert.ok(want > 0 && Math.abs(got - want) < 0.02 * want, `${what}: ${got}, not ${want}`);
    const ways = [
      { title: "Whose work it was", by: "work", head: "Work", kinds: 10, name: (kind, catalog) => `${kind} ${catalog}`.trim() },
      { title: "Which files were used", by: "file", head: "Kind of file", kinds: 13, name: (kind, catalog) => `${catalog} ${kind}`.trim() },
    ];
    for (const quantity of ["filled_pages", "regret_pages", "page_fault_seconds", "seconds", "bytes"]) {
      const shown = await divided(page, quantity);
      assert.equal(shown[1].all, shown[0].all, quantity);
      ways.forEach(({ title, by, head, kinds, name }, i) => {
        const what = `${quantity} by ${by}`;
        const { note, heads, parts, rows, all, figures, bytes, ...rest } = shown[i];
        assert.equal(rest.title, title);
        assert.ok(note.endsWith(`, by kind of ${by}`), note);
        assert.deepEqual(heads, [head, "Catalog", "Share", "Per second"]);
        assert.equal(rows.length, kinds, what);
        const rates = rows.map((row) => number(row[3]));
        assert.deepEqual(
          rates,
          rates.toSorted((a, b) => b - a),
        );
        near(sum(rows.map((row) => row[3])), number(all), what);
        assert.ok(Math.abs(rows.reduce((n, row) => n + parseFloat(row[2]), 0) - 100) < 1, what);
        // The largest are apart, each with its name.
        assert.equal(parts.at(-1), "others");
        const largest = rows.slice(0, 8).map(([kind, catalog]) => name(kind, catalog));
        assert.deepEqual(parts.slice(0, -1).sort(), largest.sort());
        if (quantity === "bytes") near(sum(figures), sum(bytes), what);
      });
    }
    const kinds = (await divided(page, "bytes"))[1].rows.map(([kind, catalog]) => `${catalog} ${kind}`);
    for (const kind of ["measure fields", "trace spans", " none", " socket", " pipe"]) assert.ok(kinds.includes(kind), kinds.join());
    // An answer that was on its way may still have the module.
    fake.modules = fake.modules.filter((name) => name !== "io");
    await waitFor(async () => {
      await page.clock.runFor(1000);
      return page.locator("#works .missing").isVisible();
    });
    assert.match(await text(page, "#works .missing"), /^Module io is switched off/);
    assert.ok(!(await page.locator("#works table").isVisible()));
    await page.locator("input[name=quantity][value$=filled_pages_total]").check({ force: true });
    assert.ok(await page.locator("#works table").isVisible());
    assert.equal(await text(page, "#works thead th:first-child"), "Kind of file");
  });

  test("a server that counts nothing by file offers only the works", async () => {
    fake.files = false;
    const { page, answers } = await show();
    await polls(page, answers, 2);
    const ways = page.locator("#works input[name=way]");
    assert.equal(await page.locator("#works fieldset:visible").count(), 1);
    assert.ok(!(await ways.first().isVisible()));
    const title = () => text(page, "#works h2");
    assert.equal(await title(), "Whose work it was");
    assert.ok(await page.locator("#works table").isVisible());
    fake.files = true;
    await waitFor(() => ways.first().isVisible());
    assert.equal(await title(), "Whose work it was");
    await page.locator("input[name=way][value=kind]").check({ force: true });
    assert.equal(await title(), "Which files were used");
    // What was chosen is shown again when it is there again.
    fake.files = false;
    await waitFor(async () => (await title()) === "Whose work it was");
    assert.ok(!(await ways.first().isVisible()));
    assert.equal(await text(page, "#works thead th:first-child"), "Work");
    fake.files = true;
    await waitFor(async () => (await title()) === "Which files were used");
    assert.ok(await page.locator("input[name=way][value=kind]").isChecked());
  });

  test("works are absent if nothing is attributed, with the server's reason", async () => {
    fake.warnings = [{ cause: "no metric is attributed to works: no symbol runtime.allgs", remedy: "build it anew", degraded: false }];
    const { page, answers } = await show();
    await polls(page, answers, 2);
    assert.match(await text(page, "#works .missing"), /^No metric is attributed to works\s+no symbol runtime.allgs\s+build it anew$/);
    assert.equal(await page.locator("#works :is(canvas, table, input):visible").count(), 0);
    fake.warnings = [];
    await waitFor(() => page.locator("#works .plot").isVisible());
    fake.modules = ["sched"];
    await waitFor(async () => !(await page.locator("#works").isVisible()));
  });

  test("queries are told while they can be seen", async () => {
    fake.receiptsRefused = 2;
    const { page, answers, faults } = await show();
    // While the page is not laid out, the section may be in sight.
    await polls(page, answers, 1);
    const asked = () => fake.requests.filter((r) => r.path === "/api/v1/queries").length;
    const first = asked();
    await polls(page, answers, 2);
    assert.equal(asked(), first);
    await toQueries(page);
    assert.equal(await text(page, "#queries-refused"), "2 queries have no receipt, because too many were under way at once.");
    const { fields, newest, most_expensive: expensive } = fake.queries();
    const heads = await page.locator("#queries-table th").evaluateAll((all) => all.map((th) => [th.textContent, th.title]));
    assert.deepEqual(
      heads.slice(6),
      fields.map(({ name, help }) => [name.replaceAll("_", " "), help]),
    );
    assert.ok(heads.every(([, help]) => help));
    const times = () => page.locator("#queries-table tbody tr td:first-child").evaluateAll((all) => all.map((td) => td.title));
    assert.deepEqual(
      await times(),
      expensive.map((q) => q.time),
    );
    await page.locator("input[name=queries-list][value=newest]").check({ force: true });
    assert.deepEqual(
      await times(),
      newest.map((q) => q.time),
    );
    // It is asked again and again, until it is out of sight.
    fake.receipts = [{ ...newest[0], name: "another", receipt: {} }, ...newest.slice(0, 3)];
    await waitFor(async () => (await text(page, "#queries-table tbody tr:first-child td:nth-child(4)")) === "another");
    assert.equal((await times()).length, 4);
    assert.equal(await text(page, "#queries-table tbody tr:first-child td:last-child"), "–");
    fake.receipts = [];
    await waitFor(async () => (await page.locator("#queries-missing:visible").count()) > 0);
    assert.equal(await text(page, "#queries-missing"), "No query has a receipt yet.");
    assert.ok(!(await page.locator("#queries-table").isVisible()));
    await page.evaluate(() => scrollTo(0, 0));
    await polls(page, answers, 1);
    const before = asked();
    await polls(page, answers, 2);
    assert.equal(asked(), before);
    assert.deepEqual(faults, []);
  });

  test("a server without receipts says why", async () => {
    fake.receipts = null;
    const { page, answers } = await show();
    await polls(page, answers, 1);
    await toQueries(page);
    assert.equal(await text(page, "#queries-missing"), "there are no receipts: events are not attributed to works");
    assert.ok(!(await page.locator("#queries-table").isVisible()));
    assert.equal(await text(page, "#state"), "Connected");
  });

  test("everything is reached by Tab, in the order in which it stands, and the focus is seen", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 2);
    await toQueries(page);
    await page.evaluate(() => document.activeElement.blur());
    const seen = [];
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const e = document.activeElement;
        if (e === document.body) return null;
        const outlined = getComputedStyle(e.matches(".segments input") ? e.nextElementSibling : e).outlineStyle !== "none";
        const id = e.id || e.getAttribute("name") || `${e.closest("[id]").id} ${e.getAttribute("role") ?? e.localName}`;
        return `${id}${outlined ? "" : " unseen"}`;
      });
      if (!at) break;
      seen.push(at);
    }
    assert.deepEqual(seen, [
      "main-skip",
      "interval",
      "theme",
      "family",
      "latency-op",
      "latency img",
      "operations img",
      "bytes img",
      "cache img",
      "fadvise img",
      "reclaim img",
      "sched img",
      "module-block switch",
      "module-cache switch",
      "module-cache summary",
      "module-io switch",
      "module-io summary",
      "module-memory switch",
      "module-memory summary",
      "module-sched switch",
      "module-sched summary",
      "overhead img",
      "way",
      "quantity",
      "works img",
      "works region",
      "queries-list",
      "queries region",
      "totals summary",
    ]);
  });

  test("the interval, the theme and the kind of call are chosen", async () => {
    const { page, answers } = await show();
    await polls(page, answers, 2);
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    const was = await theme();
    await page.locator("#theme").click();
    assert.notEqual(await theme(), was);
    await page.reload();
    assert.notEqual(await theme(), was);
    await page.locator("#theme").click();
    await polls(page, answers, 2);
    const p50 = await text(page, "#latency .figure >> nth=0");
    await page.locator("input[name=family][value=sync]").check({ force: true });
    await waitFor(async () => (await text(page, "#latency .figure >> nth=0")) !== p50);
    await page.locator("#latency-op").selectOption("fdatasync");
    assert.equal(await text(page, "#latency .figure >> nth=0"), "–");
    await page.locator("input[name=interval][value='5']").check({ force: true });
    // When the browser asks, not when we come to know of it.
    const asked = [];
    page.on("requestfinished", (r) => r.url().endsWith("/api/v1/stats") && asked.push(r.timing().startTime));
    await waitFor(() => asked.length >= 3);
    assert.ok(asked.at(-1) - asked.at(-2) > 4500, asked.join());
  });
});
