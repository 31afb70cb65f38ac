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

// A refusal of the server, or none at all: status is 0 then.
export class Failure extends Error {
  constructor(status, cause, remedy) {
    super(cause);
    this.status = status;
    this.remedy = remedy ?? "";
  }
}

// backoff is how many seconds to wait after so many failures in a row.
export function backoff(interval, failures) {
  return Math.min(30, interval * 2 ** Math.max(0, failures - 1));
}

// Connection asks the server again and again. The listener's methods are called with what comes: data({ stats, health, config }),
// lost(failure, retry in seconds) and unauthorized(). It keeps the token as long as the tab is open.
export class Connection {
  static tokenKey = "banyandb-ebpf-token";

  constructor(interval, listener) {
    this.interval = interval;
    this.listener = listener;
    this.failures = 0;
  }

  get token() {
    return sessionStorage.getItem(Connection.tokenKey) ?? "";
  }

  set token(token) {
    sessionStorage.setItem(Connection.tokenKey, token);
  }

  // now asks at once, whatever was planned.
  async now() {
    clearTimeout(this.timer);
    // An answer that comes after a newer question is thrown away.
    const turn = (this.turn = Symbol());
    const begun = performance.now();
    let answers, failure;
    try {
      answers = await Promise.all([this.ask("api/v1/stats"), this.ask("health"), this.ask("api/v1/config")]);
    } catch (cause) {
      failure = cause;
    }
    if (turn !== this.turn) return;
    if (failure?.status === 401) {
      this.listener.unauthorized();
      return;
    }
    this.failures = failure ? this.failures + 1 : 0;
    const wait = failure ? backoff(this.interval, this.failures) : Math.max(0, this.interval - (performance.now() - begun) / 1000);
    this.timer = setTimeout(() => this.now(), wait * 1000);
    if (failure) this.listener.lost(failure, wait);
    else this.listener.data({ stats: answers[0], health: answers[1], config: answers[2] });
  }

  // post sends a change. It throws a Failure that says why it was refused. The server gives a change five minutes: modules are loaded
  // and verified meanwhile, and a client that goes away undoes that.
  post(path, body) {
    return this.ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }, 300);
  }

  async ask(path, options = {}, seconds = 10) {
    const headers = { Accept: "application/json", ...options.headers };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let answer;
    let body;
    try {
      answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(seconds * 1000) });
      body = await answer.text();
    } catch (cause) {
      throw new Failure(0, cause.name === "TimeoutError" ? `no answer for ${seconds} seconds` : "the server cannot be reached");
    }
    let json;
    try {
      json = JSON.parse(body);
    } catch {
      throw new Failure(answer.status, `${answer.status} ${answer.statusText}: not JSON`.trim());
    }
    // 503 is how /health says that a module is down: an answer like any other.
    if (answer.ok || (answer.status === 503 && json.modules)) return json;
    throw new Failure(answer.status, json.error ?? `${answer.status} ${answer.statusText}`.trim(), json.remedy);
  }
}
