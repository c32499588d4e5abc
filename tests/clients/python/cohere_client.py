"""cohere: reranking and embeddings by both versions of its client."""

import cohere
from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, raises, rank

DOCUMENTS = [*TEXTS, "The king of France."]
second = cohere.ClientV2(api_key=KEY, base_url=URL)
first = cohere.Client(api_key=KEY, base_url=URL)
wanted = rank("who is the king", DOCUMENTS)
found = second.rerank(model=RANKER, query="who is the king", documents=DOCUMENTS, top_n=3)
check([(each.index, each.relevance_score) for each in found.results], wanted)
few = first.rerank(
    model=RANKER,
    query="who is the king",
    documents=[{"text": text} for text in DOCUMENTS],
    top_n=2,
    return_documents=True,
)
check([(each.index, each.relevance_score) for each in few.results], wanted[:2])
vectors = second.embed(
    model=MODEL, texts=TEXTS, input_type="search_document", embedding_types=["float"]
)
check(vectors.embeddings.float_, embed(TEXTS))
plain = first.embed(model=MODEL, texts=TEXTS, input_type="search_document")
check(plain.embeddings, embed(TEXTS))
raises(
    cohere.errors.BadRequestError,
    lambda: second.rerank(model=RANKER, query="a", documents=[""]),
    "empty",
)
wrong = cohere.ClientV2(api_key="wrong", base_url=URL)
raises(
    cohere.errors.UnauthorizedError,
    lambda: wrong.rerank(model=RANKER, query="a", documents=["b"]),
)
