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

// A server that speaks the API's JSON without any eBPF: the page's tests choose what it answers.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";

// The works of the fake server, and how much of everything each of them does.
const works = [
  ["query", "measure", 5],
  ["query", "stream", 3],
  ["query", "trace", 2],
  ["write", "measure", 2],
  ["flush", "measure", 3],
  ["merge", "measure", 6],
  ["merge", "stream", 3],
  ["index_merge", "", 1],
  ["runtime", "", 0.5],
  ["other", "", 0.4],
];

// Its files, by catalog, kind and group, and how much of everything is done with each of them.
const files = [
  ["measure", "fields", "sw_metricsMinute", 5],
  ["measure", "fields", "sw_metricsHour", 2],
  ["measure", "timestamps", "sw_metricsMinute", 2],
  ["measure", "primary", "sw_metricsMinute", 1],
  ["measure", "index", "sw_metricsMinute", 3],
  ["measure", "meta", "sw_metricsHour", 0.5],
  ["stream", "tags", "sw_records", 3],
  ["stream", "index", "sw_records", 2],
  ["trace", "spans", "sw_trace", 4],
  ["trace", "sidx", "sw_trace", 1],
  ["property", "index", "sw_property", 0.5],
  ["", "none", "", 1],
  ["", "socket", "", 6],
  ["", "pipe", "", 0.2],
];

const workLabels = works.map(([work, catalog]) => ({ work, catalog }));
const fileLabels = files.map(([catalog, kind, group]) => ({ catalog, kind, group }));

// The schema has only the works that every process has.
const schema = JSON.parse(await readFile(new URL("schema.json", import.meta.url), "utf8")).map((metric) => {
  if (!metric.labels?.includes("work")) return metric;
  const one = metric.values.filter(({ work }) => work === "other");
  return { ...metric, values: workLabels.flatMap((labels) => one.map((own) => ({ ...own, ...labels }))) };
});

// Nor has it metrics by file. They are as those by work, with other labels.
const schemaByFile = schema
  .filter(({ name }) => name.includes("_attributed_"))
  .map((metric) => {
    const own = metric.labels.filter((label) => label !== "work" && label !== "catalog");
    const one = metric.values.filter(({ work }) => work === "other").map((labels) => Object.fromEntries(own.map((label) => [label, labels[label]])));
    const values = fileLabels.flatMap((labels) => one.map((rest) => ({ ...rest, ...labels })));
    return { ...metric, name: nameByFile(metric.name), labels: ["catalog", "kind", "group", ...own], values };
  });
const counted = [...schema, ...schemaByFile];

// What is on the receipts of queries, and how much of it a typical query has.
const receiptFields = [
  { name: "io_operations", unit: "", help: "System calls, as in ebpf_io_operations_total.", typical: 420 },
  { name: "io_reads", unit: "", help: "System calls that read.", typical: 310 },
  { name: "io_read_bytes", unit: "bytes", help: "Bytes that calls read.", typical: 2.6e6 },
  { name: "io_written_bytes", unit: "bytes", help: "Bytes that calls wrote.", typical: 900 },
  { name: "io_read_seconds", unit: "seconds", help: "Time in calls that read.", typical: 4e-3 },
  { name: "cache_filled_pages", unit: "pages", help: "Pages that were added to the page cache: by reads of files that were not there.", typical: 120 },
  { name: "memory_major_faults", unit: "", help: "Major page faults, as in ebpf_memory_page_fault_duration_seconds.", typical: 4 },
  { name: "memory_major_fault_seconds", unit: "seconds", help: "Time in major page faults.", typical: 1.2e-3 },
];
const dist = new URL("../dist/", import.meta.url);
const types = {
  "index.html": "text/html; charset=utf-8",
  "app.js": "text/javascript; charset=utf-8",
  "app.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml",
};

const attachOf = {
  syscall: "fentry",
  task: "iter",
  resident: "iter",
  wait_time: "fentry",
  throttle_time: "fentry",
  refault: "fentry",
  fault: "fentry",
};

// random is a generator of its own, so that each run is as the one before.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// normal is the distribution function of the normal distribution, good enough for a fake.
const normal = (x) => 1 / (1 + Math.exp(-1.702 * x));

export class Fake {
  constructor({ token = "", readOnly = false, step = 0 } = {}) {
    Object.assign(this, { token, readOnly, step });
    this.modules = ["io", "cache", "memory", "sched"];
    this.available = ["block", "cache", "io", "memory", "sched"];
    this.maxOverhead = 1;
    this.load = 1;
    this.down = false; // answers nothing
    this.status = 0; // answers all of the API with this error
    this.refuse = ""; // refuses changes with this cause
    this.refused = ["wait_time"]; // hooks that the kernel refuses
    this.disabledHooks = { cache: ["lookup"] };
    this.leftOut = ["ebpf_cache_refaults_total"];
    this.files = true; // counts by file too
    this.warnings = [];
    this.receipts = receiptsOf(60, Date.now()); // the newest first; null is a server that has none
    this.receiptsRefused = 0;
    this.requests = [];
    this.clock = Date.now() / 1000;
    this.restart();
  }

  restart() {
    this.draw = random(1);
    this.values = new Map();
    this.cpu = 2.5;
    this.costs = new Map(this.available.map((m) => [m, 0]));
    this.elapsed = 0;
    this.turn = 0;
  }

  async listen() {
    this.server = createServer((request, response) => this.serve(request, response));
    await new Promise((done) => this.server.listen(0, "127.0.0.1", done));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
    return this;
  }

  async close() {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  async serve(request, response) {
    const path = new URL(request.url, "http://fake").pathname;
    this.requests.push({ method: request.method, path });
    if (this.down) {
      request.socket.destroy();
      return;
    }
    const send = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const asset = path === "/" ? "index.html" : path.slice(1);
    if (types[asset]) {
      response.writeHead(200, { "Content-Type": types[asset], "Content-Security-Policy": "default-src 'self'" });
      response.end(await readFile(new URL(asset, dist)));
      return;
    }
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) return send(401, { error: "the token is missing or wrong" });
    if (this.status) return send(this.status, { error: "the snapshot cannot be read", remedy: "look at the server's log" });
    switch (path) {
      case "/api/v1/stats":
        return send(200, this.stats());
      case "/api/v1/queries":
        if (!this.receipts) return send(501, { error: "there are no receipts: events are not attributed to works", remedy: "" });
        return send(200, this.queries());
      case "/health": {
        const health = this.health();
        return send(health.status === "up" ? 200 : 503, health);
      }
      case "/api/v1/config":
        if (request.method === "POST") {
          let body = "";
          for await (const chunk of request) body += chunk;
          if (this.readOnly) return send(403, { error: "the API is read-only" });
          if (this.refuse) return send(422, { error: this.refuse, remedy: "see banyand ebpf plan" });
          this.modules = JSON.parse(body).modules;
        }
        return send(200, this.config());
    }
    send(404, { error: "no such path" });
  }

  config() {
    return {
      config: { modules: this.modules, disabled_hooks: this.disabledHooks, latency_sampling: 1, collect_interval: "5s", max_overhead_percent: this.maxOverhead },
      available: this.available,
      read_only: this.readOnly,
    };
  }

  queries() {
    return {
      fields: this.receipts.length ? receiptFields.map(({ name, unit, help }) => ({ name, unit, help })) : [],
      newest: this.receipts,
      most_expensive: [...this.receipts].sort((a, b) => b.waited_seconds - a.waited_seconds).slice(0, 32),
      refused: this.receiptsRefused,
    };
  }

  health() {
    const modules = this.available.filter((name) => name !== "block" || this.modules.includes(name)).map((name) => this.moduleHealth(name));
    return { status: modules.every((m) => m.up || m.disabled) ? "up" : "down", warnings: this.warnings, modules };
  }

  moduleHealth(name) {
    const metrics = schema.filter((m) => m.module === name);
    const hooks = [...new Set(metrics.flatMap((m) => m.hooks ?? []))].map((hook) => ({
      name: hook,
      metrics: metrics.filter((m) => m.hooks?.includes(hook)).map((m) => m.name),
      attach: this.refused.includes(hook) ? "" : (attachOf[hook] ?? "tp_btf"),
      variant: this.refused.includes(hook) ? "" : (attachOf[hook] ?? "tp_btf"),
      refused: this.refused.includes(hook)
        ? [
            { variant: "tp_btf", attach: "tp_btf", cause: `no tracepoint for ${hook} in this kernel` },
            { variant: "tracepoint", attach: "tracepoint", cause: `opening events/${hook}/id: no such file` },
          ]
        : hook === "resident"
          ? [{ variant: "fentry", attach: "fentry", cause: "function has another prototype" }]
          : [],
    }));
    const disabled = !this.modules.includes(name);
    const broken = this.broken === name;
    return {
      name,
      up: !disabled && !broken,
      disabled,
      cause: broken ? "loading: operation not permitted" : "",
      remedy: broken ? "give the server CAP_BPF" : "",
      level: name === this.shed ? "sampled" : "full",
      overhead_seconds: this.costs.get(name),
      map_memory_bytes: 262144,
      missed_runs: 0,
      absent: metrics.filter((m) => m.hooks?.every((hook) => this.refused.includes(hook))).map((m) => m.name),
      disabled_hooks: this.disabledHooks[name] ?? [],
      shed: name === this.shed ? "it cost too much" : "",
      shed_hooks: [],
      overhead_assumed: false,
      hooks,
      metrics: metrics
        .filter((m) => !m.hooks?.every((hook) => this.refused.includes(hook)))
        .map((m) => ({
          name: m.name,
          verified: m.verify && !this.leftOut.includes(m.name),
          left_out: this.leftOut.includes(m.name),
          reason: this.leftOut.includes(m.name) ? "counted 12, and 16 were made" : "",
        })),
    };
  }

  // fed tells whether a hook of the metric is attached. The only warning is that no metric is attributed to works.
  fed({ name, module, hooks }) {
    if (this.warnings.length && /_(attributed|file)_/.test(name)) return false;
    if (!this.files && name.includes("_file_")) return false;
    return !hooks || hooks.some((hook) => !this.refused.includes(hook) && !this.disabledHooks[module]?.includes(hook));
  }

  stats() {
    const now = this.step ? this.clock + this.step : Math.max(this.clock + 1e-3, Date.now() / 1000);
    this.advance(now - this.clock);
    this.clock = now;
    const metrics = counted
      .filter((m) => this.modules.includes(m.module) && this.fed(m) && !this.leftOut.includes(m.name))
      .map((m) => ({
        name: m.name,
        module: m.module,
        kind: m.kind,
        unit: "",
        help: m.help,
        bounds: m.bounds,
        series: m.values.map((labels) => ({ labels, ...this.values.get(key(m, labels)) })).filter((s) => s.count > 0 || s.value > 0),
      }))
      // A metric by file is not there before it has counted something.
      .filter(({ name, series }) => series.length || !name.includes("_file_"));
    return {
      time: `${new Date(Math.floor(now) * 1000).toISOString().slice(0, 19)}.${String(Math.floor((now % 1) * 1e9)).padStart(9, "0")}Z`,
      process_cpu_seconds: this.cpu,
      metrics,
    };
  }

  // advance lets the server work for some seconds: two waves of load, and now and then a time in which the disk is slow.
  advance(seconds) {
    this.elapsed += seconds;
    const t = this.elapsed;
    const wave = this.load * (1 + 0.45 * Math.sin(t / 47) + 0.2 * Math.sin(t / 11));
    const slow = t % 300 > 200 && t % 300 < 245;
    const noise = () => 0.9 + 0.2 * this.draw();
    const n = (rate) => Math.round(rate * seconds * wave * noise());
    const io = {
      read: 900,
      pread: 2400,
      write: 1100,
      pwrite: 40,
      writev: 160,
      fsync: 14,
      fadvise: 22,
      openat: 35,
      close: 35,
      mmap: 6,
      munmap: 5,
      madvise: 18,
      unlinkat: 8,
      getdents: 4,
      ftruncate: 3,
    };
    const size = { read: 700, pread: 16000, write: 5200, pwrite: 90000, writev: 24000 };
    const typical = {
      read: 2.2e-6,
      pread: 3.1e-6,
      write: 7e-6,
      pwrite: 3e-5,
      writev: 1.2e-5,
      fsync: 2.4e-3,
      fadvise: 9e-6,
      openat: 6e-6,
      close: 1e-6,
    };
    for (const [op, rate] of Object.entries(io)) {
      const calls = n(rate);
      this.count("ebpf_io_operations_total", { op, result: "ok" }, calls);
      if (op === "read") this.count("ebpf_io_operations_total", { op, result: "error" }, Math.round(calls / 9));
      const reads = ["read", "pread"].includes(op);
      if (size[op]) {
        const bytes = Math.round(calls * size[op] * noise());
        this.count("ebpf_io_bytes_total", { op }, bytes);
        this.attribute("ebpf_io_attributed_bytes_total", { direction: reads ? "read" : "write" }, bytes);
      }
      if (!typical[op]) continue;
      const disk = ["pread", "fsync", "pwrite"].includes(op);
      const spent = this.observe(
        "ebpf_io_duration_seconds",
        { op },
        calls,
        typical[op] * (disk && slow ? 4 : 1),
        op === "fsync" ? 0.5 : 0.9,
        disk ? (slow ? 0.09 : 0.012) : 0.002,
        op === "fsync" ? 2e-2 : 6e-4,
      );
      this.attribute("ebpf_io_attributed_seconds_total", { class: reads ? "read" : op === "fsync" ? "sync" : "other" }, spent);
    }
    this.count("ebpf_io_fadvise_total", { advice: "dontneed" }, n(16));
    this.count("ebpf_io_fadvise_total", { advice: "sequential" }, n(5));
    this.count("ebpf_io_fadvise_total", { advice: "willneed" }, n(1));
    const filled = n(2300);
    this.count("ebpf_cache_filled_pages_total", {}, filled);
    this.attribute("ebpf_cache_attributed_filled_pages_total", {}, filled);
    this.count("ebpf_cache_deleted_pages_total", {}, n(2100));
    this.count("ebpf_cache_dirtied_pages_total", {}, n(1500));
    const regret = slow ? n(320) : n(12);
    this.count("ebpf_cache_regret_pages_total", {}, regret);
    this.attribute("ebpf_cache_attributed_regret_pages_total", {}, regret);
    this.count("ebpf_memory_page_faults_total", { kind: "minor" }, n(1800));
    this.count("ebpf_memory_page_faults_total", { kind: "major" }, slow ? n(60) : n(2));
    const major = this.observe("ebpf_memory_page_fault_duration_seconds", { kind: "major", area: "file" }, slow ? n(60) : n(3), 2.5e-4, 0.8, 0.02, 4e-3);
    const minor = this.observe("ebpf_memory_page_fault_duration_seconds", { kind: "minor", area: "anon" }, n(1800), 1.6e-6, 0.5, 0, 1);
    this.attribute("ebpf_memory_attributed_page_fault_seconds_total", {}, major + minor);
    if (slow) {
      this.observe("ebpf_memory_reclaim_duration_seconds", { kind: "memcg" }, n(14), 3e-4, 0.8, 0.02, 3e-3);
      this.observe("ebpf_memory_reclaim_duration_seconds", { kind: "direct" }, n(3), 4e-4, 0.8, 0, 1);
    }
    this.count("ebpf_memory_resident_pages", { kind: "file" }, 0, 41200 + Math.round(900 * wave));
    this.count("ebpf_memory_resident_pages", { kind: "anon" }, 0, 98000);
    const ran = 0.8 * seconds * wave * noise();
    this.cpu += ran;
    this.count("ebpf_sched_cpu_seconds_total", {}, ran);
    this.count("ebpf_sched_run_queue_wait_seconds_total", {}, ran * (slow ? 0.34 : 0.05) * noise());
    this.count("ebpf_sched_switches_total", { kind: "voluntary" }, n(9000));
    this.count("ebpf_sched_switches_total", { kind: "involuntary" }, n(300));
    this.count("ebpf_sched_threads", {}, 0, 23);
    for (const name of this.modules) {
      const part = { io: 0.0042, cache: 0.0021, memory: 0.0009, sched: 0.0004, block: 0.0006 }[name];
      this.costs.set(name, this.costs.get(name) + ran * part * (0.8 + 0.4 * this.draw()));
    }
  }

  count(name, labels, grown, value) {
    const metric = counted.find((m) => m.name === name);
    const series = this.values.get(key(metric, labels)) ?? { value: 0 };
    this.values.set(key(metric, labels), { value: value ?? series.value + grown });
  }

  // attribute divides what was counted among the works, and among the files. Merges come and go.
  attribute(name, labels, grown) {
    const parts = works.map(([work, , part]) => part * (work === "merge" ? 1 + Math.sin(this.elapsed / 25) : 1));
    this.divide(grown, parts).forEach((got, i) => this.count(name, { ...workLabels[i], ...labels }, got));
    const filed = files.map(([, , , part]) => part);
    this.divide(grown, filed).forEach((got, i) => this.count(nameByFile(name), { ...fileLabels[i], ...labels }, got));
  }

  divide(grown, parts) {
    const all = parts.reduce((sum, part) => sum + part, 0);
    const shares = parts.map((part) => (grown * part) / all);
    const got = Number.isInteger(grown) ? shares.map(Math.floor) : shares;
    // What rounding left over is for one after the other.
    for (let left = grown - got.reduce((sum, n) => sum + n, 0); left >= 1; left--) got[this.turn++ % parts.length]++;
    return got;
  }

  // observe adds calls of log-normal durations around a typical one, a part of which is slow, and returns how long they took.
  observe(name, labels, calls, typical, width, slowPart, slowTypical) {
    const metric = schema.find((m) => m.name === name);
    const id = key(metric, labels);
    const series = this.values.get(id) ?? { count: 0, sum: 0, buckets: new Array(metric.bounds.length + 1).fill(0) };
    const below = (bound) => (1 - slowPart) * normal(Math.log(bound / typical) / width) + slowPart * normal(Math.log(bound / slowTypical) / 0.9);
    let left = calls;
    let before = 0;
    const single = series.buckets.map(() => 0);
    metric.bounds.forEach((bound, i) => {
      const part = below(bound);
      const expected = calls * (part - before);
      const got = Math.min(left, Math.floor(expected) + (this.draw() < expected % 1 ? 1 : 0));
      single[i] = got;
      left -= got;
      before = part;
    });
    // What rounding left over is typical.
    single[metric.bounds.findIndex((b) => b >= typical)] += left;
    let cumulated = 0;
    const spent = single.reduce((sum, got, i) => sum + got * (metric.bounds[i] ?? metric.bounds.at(-1)) * 0.75, 0);
    this.values.set(id, {
      count: series.count + calls,
      sum: series.sum + spent,
      buckets: series.buckets.map((was, i) => was + (cumulated += single[i])),
    });
    return spent;
  }
}

// receiptsOf makes so many queries up to a time, the newest first.
function receiptsOf(count, until) {
  const draw = random(2);
  return Array.from({ length: count }, (_, i) => {
    const size = Math.exp(4 * draw() - 2);
    const receipt = Object.fromEntries(
      receiptFields.map(({ name, unit, typical }) => {
        const value = typical * size * (0.5 + draw());
        return [name, unit === "seconds" ? value : Math.round(value)];
      }),
    );
    const waited = receipt.io_read_seconds + receipt.memory_major_fault_seconds;
    return {
      time: new Date(until - 20_000 * i).toISOString(),
      work: "query",
      catalog: ["measure", "stream", "trace"][i % 3],
      group: ["sw_metricsMinute", "sw_records", "sw_trace"][i % 3],
      name: ["service_cpm_minute", "log", "segment"][i % 3],
      duration_seconds: waited * (1.2 + draw()),
      waited_seconds: waited,
      receipt,
    };
  });
}

function nameByFile(name) {
  return name.replace("_attributed_", "_file_");
}

function key(metric, labels) {
  return metric.name + metric.module + metric.labels.map((l) => labels[l]).join();
}

// Run by itself it serves until it is ended, to look at.
if (process.argv[1] === new URL(import.meta.url).pathname) console.log((await new Fake().listen()).url);
