"""haystack with its Hugging Face, OpenAI, Cohere and Jina components."""

import os

from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, rank

os.environ["HF_API_TOKEN"] = os.environ["OPENAI_API_KEY"] = KEY
os.environ["COHERE_API_KEY"] = os.environ["JINA_API_KEY"] = KEY

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack_integrations.components.embedders.cohere import (
    CohereDocumentEmbedder,
    CohereTextEmbedder,
)
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder, JinaTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.jina import JinaRanker


def make_documents() -> list[Document]:
    """New ones, since the old ones keep what was found of them."""
    return [Document(content=each) for each in TEXTS]


for kind_of_text, kind_of_documents, base in (
    (OpenAITextEmbedder, OpenAIDocumentEmbedder, f"{URL}/v1"),
    (CohereTextEmbedder, CohereDocumentEmbedder, URL),
):
    text = kind_of_text(api_base_url=base, model=MODEL)
    check(text.run(TEXTS[0])["embedding"], embed(TEXTS[:1])[0])
    found = kind_of_documents(api_base_url=base, model=MODEL).run(make_documents())["documents"]
    check([document.embedding for document in found], embed(TEXTS))
for base in (f"{URL}/embeddings", f"{URL}/v1/embeddings"):
    text = JinaTextEmbedder(base_url=base, model=MODEL)
    check(text.run(TEXTS[0])["embedding"], embed(TEXTS[:1])[0])
    found = JinaDocumentEmbedder(base_url=base, model=MODEL).run(make_documents())["documents"]
    check([document.embedding for document in found], embed(TEXTS))
for kind, base in (
    ("text_embeddings_inference", URL),
    ("text_embeddings_inference", f"{URL}/tei/{MODEL}"),
    ("inference_endpoints", f"{URL}/models/{MODEL}"),
):
    single = HuggingFaceAPITextEmbedder(api_type=kind, api_params={"url": base}, normalize=True)
    check(single.run(TEXTS[0])["embedding"], embed(TEXTS[:1])[0])
    many = HuggingFaceAPIDocumentEmbedder(api_type=kind, api_params={"url": base}, normalize=True)
    found = many.run(make_documents())["documents"]
    check([document.embedding for document in found], embed(TEXTS))
wanted = rank("who is the king", TEXTS)
for ranker in (
    CohereRanker(model=RANKER, api_base_url=URL),
    JinaRanker(model=RANKER, base_url=f"{URL}/v1/rerank"),
    HuggingFaceTEIRanker(url=f"{URL}/tei/{RANKER}"),
):
    ranked = ranker.run("who is the king", make_documents())["documents"]
    assert [document.content for document in ranked] == [TEXTS[place] for place, _ in wanted]
    check([document.score for document in ranked], [score for _, score in wanted])
