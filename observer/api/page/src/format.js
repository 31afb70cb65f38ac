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

// Figures for people: three digits that count.

function digits(x) {
  const size = Math.abs(x);
  return size >= 100 ? x.toFixed(0) : size >= 10 ? x.toFixed(1) : x.toFixed(2);
}

function scaled(units, base) {
  return (x) => {
    if (x === null || x === undefined || Number.isNaN(x)) return "–";
    let size = Math.abs(x);
    let i = 0;
    // 999.6 would be written as 1000.
    while (size >= base - 0.5 && i < units.length - 1) {
      size /= base;
      i++;
    }
    const sign = x < 0 ? "−" : "";
    return sign + (i === 0 && Number.isInteger(size) ? String(size) : digits(size)) + (units[i] && `\u202f${units[i]}`);
  };
}

export const count = scaled(["", "k", "M", "G", "T"], 1000);
export const bytes = scaled(["B", "KiB", "MiB", "GiB", "TiB"], 1024);

export function duration(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return "–";
  if (s === 0) return "0\u202fs";
  const [unit, scale] = s < 0.9995e-6 ? ["ns", 1e9] : s < 0.9995e-3 ? ["µs", 1e6] : s < 0.9995 ? ["ms", 1e3] : ["s", 1];
  return `${unit === "ns" ? (s * scale).toFixed(0) : digits(s * scale)}\u202f${unit}`;
}

// milliseconds writes a time in milliseconds, however short or long it is.
export function milliseconds(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return "–";
  const ms = 1000 * s;
  if (ms === 0) return "0\u202fms";
  return `${ms < 0.0005 ? "< 0.001" : ms < 1 ? ms.toFixed(3) : digits(ms)}\u202fms`;
}

export function percent(p) {
  if (p === null || p === undefined || Number.isNaN(p)) return "–";
  return `${p === 0 ? "0" : p < 0.005 ? "< 0.01" : digits(p)}\u202f%`;
}

export const perSecond = (format) => (x) => (x === null || x === undefined ? "–" : `${format(x)}/s`);

// ago says how long something has lasted.
export function ago(s) {
  s = Math.max(0, Math.round(s));
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
