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

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

// browser starts Debian's Chromium with an empty profile, which close removes.
export async function browser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
    viewport: { width: 1600, height: 1000 },
    ...options,
  });
  // It only keeps a test from hanging on a slow and busy machine.
  context.setDefaultTimeout(300_000);
  return {
    context,
    close: async () => {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

// open opens the page and keeps what must not happen: errors on the console, except that of /health when a module is down, and requests to
// elsewhere.
// answers are those of /api/v1/stats as the page got them. prepare(page) runs before the page is loaded.
export async function open(context, url, prepare = () => {}) {
  const page = await context.newPage();
  const faults = [];
  const answers = [];
  page.on("response", (r) => {
    // The page may be closed before the answer is read; then nobody waits for it.
    if (r.url().endsWith("/api/v1/stats") && r.ok())
      r.json().then(
        (answer) => answers.push(answer),
        () => {},
      );
  });
  await prepare(page);
  page.on("console", (m) => m.type() === "error" && !m.text().includes("503 (Service Unavailable)") && faults.push(m.text()));
  page.on("pageerror", (e) => faults.push(String(e)));
  page.on("request", (r) => r.url().startsWith(url) || faults.push(`asked ${r.url()}`));
  await page.goto(url);
  return { page, faults, answers };
}

// work lets the page poll so many times, with the page's clock in our hands: ten minutes pass in seconds.
export async function work(page, polls, seconds = 1) {
  for (let i = 0; i < polls; i++) {
    const shown = () => page.evaluate(() => document.body.dataset.time);
    const before = await shown();
    const answered = page.waitForResponse((r) => r.url().endsWith("/api/v1/config"));
    await page.clock.runFor(seconds * 1000);
    await answered;
    // An answer is shown some time after it came.
    for (const end = Date.now() + 300_000; (await shown()) === before; ) if (Date.now() > end) throw new Error("the answer was not shown");
  }
  await page.clock.runFor(50);
}
