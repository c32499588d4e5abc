// @huggingface/inference: every task by the path of a pipeline, and what the bare URL can tell apart.

import assert from "node:assert";
import { InferenceClient } from "@huggingface/inference";
import { INFERENCE, KEY, MODEL, READER, TEXTS, URL, ask, check, embed } from "./known.mjs";

const hub = new InferenceClient(KEY);
const at = (task, model) => hub.endpoint(`${URL}/models/${model}/pipeline/${task}`);
const bare = hub.endpoint(URL);
const masked = "He was born in [MASK] and died in London.";
const question = { question: "Who reads?", context: "The queen reads a letter." };

const [mask] = (await ask("/v1/fill-mask", { inputs: masked })).results[0].masks;
const candidates = mask.candidates.map((each) => [each.token, each.token_id, each.score]);
for (const client of [at("fill-mask", MODEL), bare]) {
  const found = await client.fillMask({ inputs: masked });
  check(
    found.map((each) => [each.token_str, each.token, each.score]),
    candidates,
  );
}

const classify = { inputs: TEXTS[0], model: INFERENCE };
const { labels } = (await ask("/v1/classify", classify)).results[0];
check(await at("text-classification", INFERENCE).textClassification({ inputs: TEXTS[0] }), labels);

const tagging = { inputs: TEXTS[0], parameters: { ignore_labels: [] } };
const tagged = await ask("/v1/token-classify", { inputs: TEXTS[0], ignore_labels: [] });
for (const client of [at("token-classification", READER), bare]) {
  const found = await client.tokenClassification(tagging);
  check(
    found.map((each) => [each.entity_group, each.word, each.start, each.score]),
    tagged.results[0].entities.map((each) => [each.label, each.word, each.start, each.score]),
  );
}

const [known] = (await ask("/v1/question-answering", { inputs: question })).results[0].answers;
for (const client of [at("question-answering", READER), bare]) {
  check(await client.questionAnswering({ inputs: question }), known);
}

const parameters = { candidate_labels: ["animals", "money"] };
const free = await ask("/v1/classify", { inputs: TEXTS[0], labels: ["animals", "money"] });
for (const client of [at("zero-shot-classification", INFERENCE), bare]) {
  check(
    await client.zeroShotClassification({ inputs: TEXTS[0], parameters }),
    free.results[0].labels,
  );
}

const sentences = { source_sentence: TEXTS[0], sentences: TEXTS.slice(1) };
const pairs = await ask("/v1/similarity", { source: TEXTS[0], targets: TEXTS.slice(1) });
for (const client of [at("sentence-similarity", MODEL), bare]) {
  check(await client.sentenceSimilarity({ inputs: sentences }), pairs.results[0].scores);
}

for (const client of [at("feature-extraction", MODEL), bare]) {
  check(await client.featureExtraction({ inputs: TEXTS[0] }), await embed(TEXTS.slice(0, 1)));
}
await assert.rejects(at("fill-mask", MODEL).fillMask({ inputs: "no" }), (error) =>
  JSON.stringify(error.httpResponse?.body ?? error.message).includes("mask"),
);
