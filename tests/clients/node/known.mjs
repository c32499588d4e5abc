// What the service's own routes answer: the measure of what other clients are told.

import assert from "node:assert";

export const [URL, KEY] = process.argv.slice(2);
export const [MODEL, READER, INFERENCE, RANKER] = [
  "lacuna-mini",
  "tiny-reader",
  "tiny-inference",
  "tiny-ranker",
];
export const TEXTS = ["A cat sits on the mat.", "The river rose overnight."];

export async function ask(path, body) {
  const response = await fetch(URL + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

export async function embed(texts) {
  return (await ask("/v1/embeddings", { input: texts })).data.map((entry) => entry.embedding);
}

export async function rank(query, documents) {
  const { results } = await ask("/v1/rerank", { query, documents, model: RANKER });
  return results.map((each) => [each.index, each.relevance_score]);
}

// Numbers to within rounding, all else exactly.
export function check(found, wanted) {
  if (typeof wanted === "number") {
    assert.ok(Math.abs(found - wanted) < 1e-4, `${found} is not ${wanted}`);
  } else if (Array.isArray(wanted)) {
    assert.equal(found.length, wanted.length);
    wanted.forEach((each, place) => check(found[place], each));
  } else if (wanted !== null && typeof wanted === "object") {
    assert.deepEqual(Object.keys(found).sort(), Object.keys(wanted).sort());
    for (const name of Object.keys(wanted)) check(found[name], wanted[name]);
  } else {
    assert.equal(found, wanted);
  }
}
