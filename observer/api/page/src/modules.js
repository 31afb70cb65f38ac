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

// What the page knows of modules, from /health and /api/v1/config.

// list returns all modules that there are, in the server's order: those that are available, then what only the health names.
export function list(health, config) {
  const names = [...config.available];
  for (const m of health.modules) if (!names.includes(m.name)) names.push(m.name);
  return names.map((name) => ({
    name,
    on: config.config.modules.includes(name),
    health: health.modules.find((m) => m.name === name),
  }));
}

// change is the list of modules once one is switched. The others stay as and where they are.
export function change(modules, name, on) {
  const others = modules.filter((m) => m !== name);
  return on ? [...others, name] : others;
}

// absence tells why a metric is not shown: { title, reasons }, or null if nothing is known against it.
export function absence(id, health, config) {
  const [module, name] = id.split("/");
  const m = health.modules.find((candidate) => candidate.name === module);
  if (!config.config.modules.includes(module)) {
    return { title: `Module ${module} is switched off`, reasons: config.read_only ? [] : ["Switch it on under Modules."] };
  }
  if (!m) return { title: `Module ${module} is not loaded`, reasons: [] };
  if (!m.up) return { title: `Module ${module} is down`, reasons: [m.cause, m.remedy].filter(Boolean) };
  const verdict = m.metrics.find((candidate) => candidate.name === name);
  if (verdict?.left_out) return { title: "Not available on this kernel", reasons: [`Left out, since it counted wrong: ${verdict.reason}`] };
  const hooks = m.hooks.filter((hook) => hook.metrics.includes(name));
  if (!hooks.length || hooks.some((hook) => hook.attach && !m.disabled_hooks.includes(hook.name) && !m.shed_hooks.includes(hook.name))) return null;
  if (hooks.some((hook) => m.shed_hooks.includes(hook.name))) return { title: "Shed to stay in the budget", reasons: [m.shed] };
  // A hook that the kernel took is missed for no other reason but the operator's.
  const off = hooks.filter((hook) => hook.attach).map((hook) => `Hook ${hook.name} is switched off.`);
  if (off.length) return { title: "Switched off", reasons: off };
  return {
    title: "Not available on this kernel",
    reasons: hooks.map((hook) => `${hook.name}: ${hook.refused.map((r) => `${r.variant}: ${r.cause}`).join("; ") || "not attached"}`),
  };
}

// overhead is what each module costs between two readings, in percent of the process's CPU time: a Map by name, without those of
// which it cannot be told. A reading is { cpu, health }.
export function overhead(before, after) {
  const cpu = after.cpu - before.cpu;
  const percents = new Map();
  if (!(cpu > 0)) return percents;
  for (const m of after.health.modules) {
    const old = before.health.modules.find((candidate) => candidate.name === m.name);
    const spent = m.overhead_seconds - (old?.overhead_seconds ?? NaN);
    if (spent >= 0) percents.set(m.name, (100 * spent) / cpu);
  }
  return percents;
}
