// openai: embeddings, models, and errors by their kind.

import assert from "node:assert";
import OpenAI from "openai";
import { KEY, MODEL, TEXTS, URL, check, embed } from "./known.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const answer = await client.embeddings.create({ model: MODEL, input: TEXTS });
check(
  answer.data.map((entry) => Array.from(entry.embedding)),
  await embed(TEXTS),
);
assert.equal((await client.models.list()).data[0].id, MODEL);
await assert.rejects(
  client.embeddings.create({ model: MODEL, input: "" }),
  (error) => error instanceof OpenAI.BadRequestError && error.message.includes("empty"),
);
const wrong = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "wrong", maxRetries: 0 });
await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
