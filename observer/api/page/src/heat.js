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

import { histogram } from "./stats.js";

// heat spreads a histogram over slots of time: { columns: [{ from, to, rates }], max, low, high }, where rates are counts
// a second by bucket, max is the highest of them, and low and high are the first and the last bucket that counted anything. A slot that
// nothing is known of has no column. Slots lie at multiples of their width, so that a cell stays as it is while time goes on.
export function heat(items, id, keep, from, to, slots) {
  const width = (to - from) / slots;
  const first = Math.floor(from / width);
  const columns = [];
  let bounds;
  for (const item of items) {
    const h = histogram(item, id, keep);
    if (!h) continue;
    bounds = h.bounds;
    const begin = Math.max(item.time - item.seconds, from);
    for (let slot = Math.floor(begin / width); slot * width < item.time; slot++) {
      const part = (Math.min(item.time, (slot + 1) * width) - Math.max(begin, slot * width)) / width;
      if (part <= 0 || slot < first) continue;
      const column = (columns[slot - first] ??= { from: slot * width, to: (slot + 1) * width, known: 0, rates: h.buckets.map(() => 0) });
      column.known += part;
      h.buckets.forEach((n, i) => (column.rates[i] += ((n - (i > 0 ? h.buckets[i - 1] : 0)) / item.seconds) * part));
    }
  }
  let max = 0;
  let low = Infinity;
  let high = -1;
  const present = columns.filter(Boolean);
  for (const column of present) {
    // A slot at the edge of what is known is judged by the part that is.
    column.rates = column.rates.map((r) => r / column.known);
    column.rates.forEach((r, i) => {
      if (r <= 0) return;
      max = Math.max(max, r);
      low = Math.min(low, i);
      high = Math.max(high, i);
    });
  }
  return { columns: present.map(({ from: a, to: b, rates }) => ({ from: a, to: b, rates })), bounds, max, low, high };
}

// edges returns the lower and the upper edge of bucket i on a logarithmic axis: the first and the last one are open, and are drawn
// as wide as their neighbour.
export function edges(bounds, i) {
  const step = bounds[1] / bounds[0];
  if (i === 0) return [bounds[0] / step, bounds[0]];
  if (i === bounds.length) return [bounds[i - 1], bounds[i - 1] * step];
  return [bounds[i - 1], bounds[i]];
}

// shade is how strong a cell is, 0 to 1. It grows by the logarithm: one slow call among thousands is what one looks for.
export function shade(rate, max) {
  if (rate <= 0 || max <= 0) return 0;
  const faintest = max / 4096;
  return Math.min(1, Math.max(0.04, Math.log(Math.max(rate, faintest) / faintest) / Math.log(max / faintest)));
}
