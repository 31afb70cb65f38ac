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

// Takes pictures of a real server's page, light and wide, dark and narrow, after some seconds of its work:
// node e2e/pictures.mjs URL DIR SECONDS
import { browser, open } from "./browser.mjs";

const [url, dir, seconds] = process.argv.slice(2);
if (!(seconds > 0)) throw new Error("say whose page, where to write to, and when");

const views = await Promise.all(
  [
    ["light", 1600, 1000],
    ["dark", 400, 860],
  ].map(async ([theme, width, height]) => {
    const { context, close } = await browser({ viewport: { width, height }, colorScheme: theme, timezoneId: "UTC", locale: "en-GB" });
    const { page } = await open(context, url, (p) => p.addInitScript(() => localStorage.setItem("interval", "2")));
    return { theme, page, close };
  }),
);
await new Promise((done) => setTimeout(done, seconds * 1000));
for (const { theme, page, close } of views) {
  await page.waitForSelector("body[data-connection=connected]");
  await page.screenshot({ path: `${dir}/page-${theme}.png`, fullPage: true });
  await close();
}
