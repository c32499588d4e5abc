// Every route by what openapi-typescript makes of our document, in as few words as people write.

import createClient from "openapi-fetch";
import type { paths } from "./openapi_schema.js";

export async function ask(baseUrl: string, key: string, texts: string[]) {
  const headers = { authorization: `Bearer ${key}` };
  const client = createClient<paths>({ baseUrl, headers });
  const [text] = texts as [string];
  const vectors = await client.POST("/v1/embeddings", { body: { input: texts } });
  const masks = await client.POST("/v1/fill-mask", { body: { inputs: "The [MASK] rose." } });
  const labels = await client.POST("/v1/classify", { body: { inputs: text } });
  const entities = await client.POST("/v1/token-classify", { body: { inputs: texts } });
  const answers = await client.POST("/v1/question-answering", {
    body: { inputs: { question: "Who sits?", context: text } },
  });
  const next = await client.POST("/v1/next-sentence", {
    body: { inputs: { first: text, second: text } },
  });
  const ranks = await client.POST("/v1/rerank", { body: { query: "cats", documents: texts } });
  const cosines = await client.POST("/v1/similarity", { body: { inputs: texts } });
  const scores = await client.POST("/v1/score", { body: { inputs: text } });
  const tokens = await client.POST("/v1/tokenize", { body: { inputs: texts } });
  const ids = tokens.data?.results[0]?.tokens.map((token) => token.id) ?? [];
  const spelt = await client.POST("/v1/detokenize", { body: { ids } });
  const attention = await client.POST("/v1/attention", { body: { inputs: text } });
  const words = await client.POST("/v1/words", { body: { positive: ["cat"] } });
  const models = await client.GET("/v1/models");
  const refused = await client.POST("/v1/embeddings", { body: { input: "" } });
  // @ts-expect-error: without what is asked for it does not compile.
  const missing = await client.POST("/v1/embeddings", { body: { model: "any" } });
  return {
    vectors: vectors.data?.data.map((entry) => entry.embedding),
    candidates: masks.data?.results[0]?.masks[0]?.candidates.map((each) => each.token),
    model: models.data?.data[0]?.id,
    codes: [refused.error?.error.code, missing.error?.error.code],
    failed: [
      ...[vectors, masks, labels, entities, answers, next, ranks, cosines, scores, tokens],
      ...[spelt, attention, words, models],
    ].flatMap((each) => each.error ?? []),
  };
}
