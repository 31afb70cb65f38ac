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

// History keeps what happened in the last span seconds, by the server's clock. An item has a time, at which it ends, and
// seconds; a gap is an item that has no metrics.
export class History {
  constructor(span) {
    this.span = span;
    this.items = [];
  }

  get newest() {
    return this.items.at(-1);
  }

  // add takes an item that is newer than all. If the server's clock went back, what it told before is dropped.
  add(item) {
    // The time of a gap is a guess of this side: it gives way to what the server says.
    if (this.newest && !this.newest.metrics) {
      this.newest.time = Math.min(this.newest.time, item.time - item.seconds);
      if (this.items.length > 1 && this.items.at(-2).time >= this.newest.time) this.items.pop();
    }
    if (this.newest?.time >= item.time) this.items = [];
    this.items.push(item);
    const oldest = item.time - this.span;
    this.items.splice(
      0,
      this.items.findIndex((i) => i.time > oldest),
    );
  }

  // gap says that nothing is known of the time up to now. Between two items one gap is enough; it moves on.
  gap(time) {
    if (!this.newest) return;
    if (this.newest.metrics) this.items.push({ time: Math.max(time, this.newest.time + 0.001) });
    else this.newest.time = Math.max(time, this.newest.time);
  }

  // last returns the items of the last seconds.
  last(span) {
    const oldest = (this.newest?.time ?? 0) - span;
    return this.items.filter((i) => i.time > oldest);
  }
}

// shown is how many seconds before now the charts show, span at most: fewer while little is known, so that it is not squeezed to the edge.
export function shown(items, now, span) {
  const known = items.length ? now - items[0].time + (items[0].seconds ?? 0) : 0;
  return [span / 5, span / 2].find((s) => known <= s) ?? span;
}
