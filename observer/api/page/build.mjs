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

// Builds dist, or with --check fails if dist is not what the sources build.
import { build } from "esbuild";
import { readFile, writeFile, readdir } from "node:fs/promises";

const here = new URL(".", import.meta.url).pathname;
const licence = (await readFile(`${here}node_modules/uplot/LICENSE`, "utf8")).trim();
const apache = (await readFile(`${here}build.mjs`, "utf8"))
  .match(/^(\/\/.*\n)+/)[0]
  .replace(/^\/\/ ?/gm, "")
  .trim();
const banner = `/*\n${apache}\n\nIt contains uPlot, ${(await readFile(`${here}node_modules/uplot/package.json`, "utf8")).match(/"version": "(.*?)"/)[1]}:\n\n${licence}\n*/`;

const { outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/app.js" },
  outdir: "dist",
  bundle: true,
  minify: true,
  write: false,
  format: "iife",
  target: ["chrome109", "firefox115", "safari16.4"],
  legalComments: "none",
  banner: { js: banner, css: banner },
  charset: "utf8",
});
const files = new Map(outputFiles.map((f) => [f.path.split("/").at(-1), f.text]));
for (const name of ["index.html", "icon.svg"]) files.set(name, await readFile(`${here}src/${name}`, "utf8"));

if (process.argv.includes("--check")) {
  const have = (await readdir(`${here}dist`)).sort().join();
  const want = [...files.keys()].sort().join();
  if (have !== want) throw new Error(`dist has ${have}, and should have ${want}: run npm run build and commit`);
  for (const [name, text] of files) {
    if ((await readFile(`${here}dist/${name}`, "utf8")) !== text)
      throw new Error(`dist/${name} is not what the sources build: run npm run build and commit`);
  }
} else {
  for (const [name, text] of files) await writeFile(`${here}dist/${name}`, text);
}
