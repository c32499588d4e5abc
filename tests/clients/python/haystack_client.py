"""haystack with its Hugging Face, OpenAI and Cohere components."""

import os

from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, rank

os.environ["HF_API_TOKEN"] = os.environ["OPENAI_API_KEY"] = KEY
os.environ["COHERE_API_KEY"] = KEY

from haystack import Document
from haystack.components.embedders import OpenAITextEmbedder
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.cohere import CohereRanker

text = OpenAITextEmbedder(api_base_url=f"{URL}/v1", model=MODEL)
check(text.run(TEXTS[0])["embedding"], embed(TEXTS[:1])[0])
for kind, base in (
    ("text_embeddings_inference", URL),
    ("text_embeddings_inference", f"{URL}/tei/{MODEL}"),
    ("inference_endpoints", f"{URL}/models/{MODEL}"),
):
    single = HuggingFaceAPITextEmbedder(api_type=kind, api_params={"url": base}, normalize=True)
    check(single.run(TEXTS[0])["embedding"], embed(TEXTS[:1])[0])
    many = HuggingFaceAPIDocumentEmbedder(api_type=kind, api_params={"url": base}, normalize=True)
    found = many.run([Document(content=each) for each in TEXTS])["documents"]
    check([document.embedding for document in found], embed(TEXTS))
ranker = CohereRanker(model=RANKER, api_base_url=URL)
ranked = ranker.run("who is the king", [Document(content=each) for each in TEXTS])["documents"]
wanted = rank("who is the king", TEXTS)
assert [document.content for document in ranked] == [TEXTS[place] for place, _ in wanted]
check([document.score for document in ranked], [score for _, score in wanted])
