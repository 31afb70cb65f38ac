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

// The colours of what is drawn, in which a family of calls has one hue everywhere. Those of the rest of the page are in app.css.
const themes = {
  dark: {
    text: "#8b97a8",
    grid: "#ffffff0d",
    zero: "#ffffff2e",
    ground: "#10151d",
    read: ["#4cc9f0", "#3a86c8", "#7dd3fc", "#2b6a9b"],
    write: ["#f4a259", "#d97f30", "#fbc88f", "#a8632a", "#e0b080", "#8a5a33"],
    sync: ["#f25f7a", "#c2415f", "#ff9db0"],
    advise: ["#3ecf8e", "#8ee3b8", "#279a68", "#b7d968", "#6fae5c", "#4f8a7a"],
    name: ["#8f9bb3", "#6b7690", "#b8c1d4", "#566079", "#a2a9bd", "#7d8299", "#cbd2e1", "#4b5468"],
    map: ["#a78bfa", "#7c5fd6", "#c9b8ff", "#5b46a3"],
    works: ["#4cc9f0", "#f4a259", "#3ecf8e", "#a78bfa", "#f25f7a", "#f2e05c", "#3a74d8", "#e58fd0"],
    p50: "#f8fafc",
    p99: "#ff5d8f",
    budget: "#f2c14e",
    heat: ["#10151d", "#14304a", "#12596f", "#1a8a83", "#57bd70", "#c3dd55", "#fdf3a0"],
  },
  light: {
    text: "#5d6878",
    grid: "#0000000f",
    zero: "#00000033",
    ground: "#ffffff",
    read: ["#0b7fb8", "#0a5c8a", "#3fa9db", "#08405f"],
    write: ["#d9741a", "#a9560c", "#eb9a4f", "#7a3f0b", "#c48a50", "#5e3a19"],
    sync: ["#d02c50", "#97193a", "#e86a86"],
    advise: ["#12925c", "#3fb582", "#0b6b43", "#7d9e1d", "#4b7f38", "#33695b"],
    name: ["#6b7690", "#8f9bb3", "#4d566b", "#a9b2c5", "#5d667b", "#7d8299", "#3c4456", "#b8c1d4"],
    map: ["#7a5af0", "#5a3dc9", "#a08bf5", "#412b96"],
    works: ["#0b7fb8", "#d9741a", "#12925c", "#7a5af0", "#d02c50", "#b39b00", "#0a3f7a", "#c255a4"],
    p50: "#0d1a2b",
    p99: "#d6004c",
    budget: "#b7791f",
    heat: ["#f3f8fb", "#dcebf5", "#b3d8e6", "#7fc1cf", "#4fa3b5", "#2f83a0", "#2a628f"],
  },
};

export const families = {
  read: ["read", "pread", "readv", "preadv"],
  write: ["write", "pwrite", "writev", "pwritev", "copy_file_range", "sendfile"],
  sync: ["fsync", "fdatasync", "sync_file_range"],
  advise: ["fadvise", "madvise"],
  map: ["mmap", "munmap", "brk"],
};

export const theme = () => themes[document.documentElement.dataset.theme] ?? themes.dark;

// ofOp is the colour of a system call.
export function ofOp(op) {
  const t = theme();
  for (const [family, ops] of Object.entries(families)) {
    if (ops.includes(op)) return t[family][ops.indexOf(op)];
  }
  let hash = 0;
  for (const c of op) hash = (hash * 31 + c.charCodeAt(0)) >>> 0;
  return t.name[hash % t.name.length];
}

// ramp is a function from 0..1 to a colour of the heat map.
export function ramp() {
  const stops = theme().heat.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const colours = Array.from({ length: 129 }, (_, n) => {
    const x = (n / 128) * (stops.length - 1);
    const i = Math.min(stops.length - 2, Math.floor(x));
    return `rgb(${stops[i].map((a, c) => Math.round(a + (stops[i + 1][c] - a) * (x - i))).join(" ")})`;
  });
  return (x) => colours[Math.round(x * 128)];
}
