// The Vercel AI SDK, with its provider for what speaks as OpenAI does.

import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";
import { KEY, MODEL, TEXTS, URL, check, embed } from "./known.mjs";

const cloze = createOpenAICompatible({ name: "cloze", baseURL: `${URL}/v1`, apiKey: KEY });
const model = cloze.textEmbeddingModel(MODEL);
const { embeddings, usage } = await embedMany({ model, values: TEXTS });
check(embeddings, await embed(TEXTS));
assert.ok(usage.tokens > 0);
await assert.rejects(embedMany({ model, values: [""], maxRetries: 0 }), (error) =>
  error.message.includes("empty"),
);
