// The Vercel AI SDK, with its providers for OpenAI and for what speaks as OpenAI does.

import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";
import { KEY, MODEL, TEXTS, URL, check, embed } from "./known.mjs";

const settings = { name: "cloze", baseURL: `${URL}/v1`, apiKey: KEY };
for (const cloze of [createOpenAICompatible(settings), createOpenAI(settings)]) {
  const model = cloze.textEmbeddingModel(MODEL);
  const { embeddings, usage } = await embedMany({ model, values: TEXTS });
  check(embeddings, await embed(TEXTS));
  assert.ok(usage.tokens > 0);
  await assert.rejects(embedMany({ model, values: [""], maxRetries: 0 }), (error) =>
    error.message.includes("empty"),
  );
}
