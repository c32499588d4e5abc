// Sends what stands in a form, and shows the answer. Everything else of the page is plain HTML.
"use strict";

const key = document.getElementById("key");

async function send(form) {
  const output = form.querySelector("output");
  const query = new URLSearchParams();
  let path = form.dataset.path.slice(1);
  for (const input of form.querySelectorAll("input")) {
    if (input.dataset.in === "path") {
      path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    } else if (input.value) {
      query.set(input.name, input.value);
    }
  }
  const headers = {};
  const options = { method: form.dataset.method.toUpperCase(), headers };
  if (key.value) headers["Authorization"] = `Bearer ${key.value}`;
  const body = form.querySelector("textarea");
  if (body) {
    headers["Content-Type"] = "application/json";
    options.body = body.value;
  }
  output.textContent = "…";
  try {
    const response = await fetch(query.size ? `${path}?${query}` : path, options);
    let text = await response.text();
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // Not JSON: shown as it came.
    }
    const seen = ["server-timing", "x-request-id", "retry-after"]
      .filter((name) => response.headers.has(name))
      .map((name) => `${name}: ${response.headers.get(name)}`);
    output.textContent = [`${response.status} ${response.statusText}`, ...seen, "", text].join("\n");
  } catch (error) {
    output.textContent = `no answer: ${error.message}`;
  }
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}
