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

import * as format from "./format.js";
import { seconds } from "./stats.js";
import { exact } from "./totals.js";

// What the page tells of /api/v1/queries.

// figure writes a value of a receipt in its unit. Times are all in milliseconds, so that a column can be compared at a glance.
export function figure(value, unit) {
  if (value === undefined) return "–";
  return unit === "seconds" ? format.milliseconds(value) : unit === "bytes" ? format.bytes(value) : exact(value);
}

const clock = (time) => new Date(1000 * seconds(time)).toLocaleTimeString(undefined, { hourCycle: "h23" });

// columns are what is told of each query: [{ label, help, number, of(query) }], at the end the fields of the receipts.
export function columns(fields) {
  return [
    { label: "Time", help: "When this server began to handle it.", of: (q) => clock(q.time) },
    { label: "Catalog", help: "The kind of data that it reads.", of: (q) => q.catalog },
    { label: "Group", help: "The first group of the request.", of: (q) => q.group },
    { label: "Name", help: "The measure, stream, trace or property.", of: (q) => q.name },
    { label: "Duration", help: "How long that took.", number: true, of: (q) => figure(q.duration_seconds, "seconds") },
    {
      label: "Waited",
      help: "How long it waited in the kernel: the sum of all times on its receipt. Goroutines that wait at the same time all count.",
      number: true,
      of: (q) => figure(q.waited_seconds, "seconds"),
    },
    ...fields.map(({ name, unit, help }) => ({ label: name.replaceAll("_", " "), help, number: true, of: (q) => figure(q.receipt[name], unit) })),
  ];
}

// lists are what can be chosen.
export const lists = { most_expensive: "Most expensive of the last hour", newest: "Newest" };

// empty says that a list has nothing, or "" if it has something.
export function empty(answer, list) {
  if (answer[list].length) return "";
  return answer.newest.length ? "No query of the last hour has a receipt." : "No query has a receipt yet.";
}

// refusal says how many queries have no receipt, or "" if all have one.
export function refusal(refused) {
  if (!(refused > 0)) return "";
  return `${exact(refused)} ${refused === 1 ? "query has" : "queries have"} no receipt, because too many were under way at once.`;
}
