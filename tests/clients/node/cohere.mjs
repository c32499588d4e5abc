// cohere-ai: reranking by both versions, embeddings by the second.

import assert from "node:assert";
import { CohereClient, CohereClientV2 } from "cohere-ai";
import { KEY, MODEL, RANKER, TEXTS, URL, check, embed, rank } from "./known.mjs";

const second = new CohereClientV2({ token: KEY, environment: URL, maxRetries: 0 });
const first = new CohereClient({ token: KEY, environment: URL, maxRetries: 0 });
const query = "who is the king";
const wanted = await rank(query, TEXTS);
for (const client of [second, first]) {
  const { results } = await client.rerank({ model: RANKER, query, documents: TEXTS, topN: 2 });
  check(
    results.map((each) => [each.index, each.relevanceScore]),
    wanted,
  );
}
const { embeddings } = await second.embed({
  model: MODEL,
  texts: TEXTS,
  inputType: "search_document",
  embeddingTypes: ["float"],
});
check(embeddings.float, await embed(TEXTS));
await assert.rejects(second.rerank({ model: RANKER, query, documents: [""] }), (error) =>
  error.message.includes("empty"),
);
