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

// h makes an element. Attributes are set as such, a function as a listener; null, undefined and false are left out. Text is only ever
// text: what the server says is never taken for HTML.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// segments is a group of radio buttons for the options, { value, label, title }, of which the first is chosen.
export function segments(legend, name, options, choose) {
  return h(
    "fieldset",
    { class: "segments" },
    h("legend", { class: "hidden" }, legend),
    options.map((option, at) =>
      h(
        "label",
        { title: option.title },
        h("input", { type: "radio", name, value: option.value, checked: at === 0, change: () => choose(option) }),
        h("span", {}, option.label),
      ),
    ),
  );
}

export const byId = (id) => document.getElementById(id);

// say sets the text of an element if it is another, so that a screen reader hears only what is new.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
