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

// Takes pictures of the page, dark and light, wide and narrow, after ten minutes of work of the fake server: node e2e/screenshots.mjs DIR
import { mkdir } from "node:fs/promises";
import { browser, open, work } from "./browser.mjs";
import { Fake } from "./fake.mjs";

const out = process.argv[2];
if (!out) throw new Error("name the folder to write to");
await mkdir(out, { recursive: true });

for (const [width, height, theme] of [
  [1600, 1000, "dark"],
  [1600, 1000, "light"],
  [400, 860, "dark"],
  [400, 860, "light"],
]) {
  const fake = await new Fake({ step: 2 }).listen();
  fake.clock = Date.parse("2026-01-05T10:00:00Z") / 1000;
  const { context, close } = await browser({
    viewport: { width, height },
    colorScheme: theme,
    deviceScaleFactor: width < 500 ? 2 : 1,
    timezoneId: "UTC",
    locale: "en-GB",
  });
  await context.clock.install();
  const { page } = await open(context, fake.url);
  await page.waitForSelector("body[data-connection=connected]");
  await work(page, 320, 2);
  await page.screenshot({ path: `${out}/${theme}-${width}.png`, fullPage: true });
  await close();
  await fake.close();
}
