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

// What the server answers, made ready for differences. An id names a metric: "<module>/<name>", since a name such as
// ebpf_events_lost_total may be in several modules.

// seconds reads an RFC 3339 time into seconds since 1970, with its nanoseconds, which Date.parse cuts off.
export function seconds(time) {
  const [, whole, fraction, zone] = /^(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(time);
  return Date.parse(whole + zone) / 1000 + Number(fraction ?? 0);
}

export function seriesKey(labels) {
  return Object.entries(labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

// idByFile is the id of the metric that counts by file what the metric of an id counts by work.
export const idByFile = (id) => id.replace("_attributed_", "_file_");

// snapshot indexes an answer of /api/v1/stats. Time and cpu are in seconds.
export function snapshot(stats) {
  const metrics = new Map();
  for (const metric of stats.metrics) {
    const series = new Map(metric.series.map((s) => [seriesKey(s.labels), s]));
    metrics.set(`${metric.module}/${metric.name}`, { kind: metric.kind, bounds: metric.bounds, series });
  }
  // An answer has no metric by file until it has counted something. Until then it is 0, since the one by work is known.
  for (const id of [...metrics.keys()]) if (!metrics.has(idByFile(id))) metrics.set(idByFile(id), { kind: "counter", series: new Map() });
  return { time: seconds(stats.time), cpu: stats.process_cpu_seconds, metrics };
}

// difference is what happened between two snapshots: { time, seconds, cpu, metrics }, where metrics has the growth of
// each counter and histogram, and a gauge as it stands. A metric that is not in both snapshots is not in it, and neither is one of which a
// series fell: unknown is not 0. It is null if the server was restarted in between, or no time has passed.
export function difference(before, after) {
  if (after.time <= before.time || after.cpu < before.cpu) return null;
  const metrics = new Map();
  for (const [id, metric] of after.metrics) {
    const old = before.metrics.get(id);
    const series = old && growth(metric, old);
    if (series) metrics.set(id, { kind: metric.kind, bounds: metric.bounds, series });
  }
  return { time: after.time, seconds: after.time - before.time, cpu: after.cpu - before.cpu, metrics };
}

function growth(metric, old) {
  const grown = new Map();
  // A series that was there and is not has begun anew.
  for (const key of old.series.keys()) if (!metric.series.has(key)) return null;
  for (const [key, series] of metric.series) {
    const from = old.series.get(key);
    let grew;
    if (metric.kind === "histogram") {
      grew = {
        labels: series.labels ?? {},
        count: series.count - (from?.count ?? 0),
        sum: series.sum - (from?.sum ?? 0),
        buckets: series.buckets.map((n, i) => n - (from?.buckets[i] ?? 0)),
      };
      // The buckets are cumulative, so their differences must be too.
      if (grew.buckets.some((n, i) => n < (i > 0 ? grew.buckets[i - 1] : 0))) return null;
    } else {
      grew = { labels: series.labels ?? {}, value: series.value - (metric.kind === "gauge" ? 0 : (from?.value ?? 0)) };
      if (metric.kind !== "gauge" && grew.value < 0) return null;
    }
    grown.set(key, grew);
  }
  return grown;
}

// merge adds differences up to one over their whole time. A metric counts as far as it was there.
export function merge(differences) {
  const whole = { time: differences.at(-1)?.time ?? 0, seconds: 0, cpu: 0, metrics: new Map() };
  for (const d of differences) {
    if (!d.metrics) continue;
    whole.seconds += d.seconds;
    whole.cpu += d.cpu;
    for (const [id, metric] of d.metrics) {
      let into = whole.metrics.get(id);
      if (!into) whole.metrics.set(id, (into = { ...metric, series: new Map() }));
      for (const [key, s] of metric.series) into.series.set(key, add(metric.kind, into.series.get(key), s));
    }
  }
  return whole;
}

function add(kind, a, b) {
  if (!a || kind === "gauge") return b;
  if (kind === "counter") return { labels: b.labels, value: a.value + b.value };
  return { labels: b.labels, count: a.count + b.count, sum: a.sum + b.sum, buckets: a.buckets.map((n, i) => n + b.buckets[i]) };
}

const all = () => true;

// total sums the chosen series of a counter or gauge, null if the metric is not there.
export function total(difference, id, keep = all) {
  const metric = difference.metrics?.get(id);
  if (!metric) return null;
  let sum = 0;
  for (const s of metric.series.values()) if (keep(s.labels)) sum += s.value;
  return sum;
}

// rate is total for each second.
export function rate(difference, id, keep) {
  const sum = total(difference, id, keep);
  return sum === null ? null : sum / difference.seconds;
}

// cumulate lays lists of numbers on top of each other: each becomes the sum of itself and all before it. An unknown number stays unknown.
export function cumulate(lists) {
  let below = [];
  return lists.map((list) => (below = list.map((n, i) => (n === null ? null : n + (below[i] ?? 0)))));
}

// histogram sums the chosen series of a histogram: { bounds, count, sum, buckets }, null if the metric is not there.
export function histogram(difference, id, keep = all) {
  const metric = difference.metrics?.get(id);
  if (!metric) return null;
  const whole = { bounds: metric.bounds, count: 0, sum: 0, buckets: new Array(metric.bounds.length + 1).fill(0) };
  for (const s of metric.series.values()) {
    if (!keep(s.labels)) continue;
    whole.count += s.count;
    whole.sum += s.sum;
    for (let i = 0; i < whole.buckets.length; i++) whole.buckets[i] += s.buckets[i];
  }
  return whole;
}

// quantile is that of Prometheus' histogram_quantile: linear inside the bucket, the last bound if it lies above all, null
// if nothing was counted. The buckets are cumulative and one more than the bounds.
export function quantile(q, { bounds, buckets }) {
  const count = buckets.at(-1);
  if (!(count > 0)) return null;
  const rank = q * count;
  const i = buckets.findIndex((n) => n >= rank);
  if (i >= bounds.length) return bounds.at(-1) ?? null;
  const lower = i > 0 ? bounds[i - 1] : 0;
  const below = i > 0 ? buckets[i - 1] : 0;
  return lower + ((bounds[i] - lower) * (rank - below)) / (buckets[i] - below);
}
