"""voyageai: ranking and embeddings, below a base of their own."""

import voyageai
from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, raises, rank

BASE = f"{URL}/voyage/v1"
client = voyageai.Client(api_key=KEY, base_url=BASE)
ranked = client.rerank("who is the king", TEXTS, model=RANKER)
check(
    [(each.index, each.relevance_score) for each in ranked.results], rank("who is the king", TEXTS)
)
few = client.rerank("who is the king", TEXTS, model=RANKER, top_k=1)
assert few.results == ranked.results[:1]
found = client.embed(TEXTS, model=MODEL, input_type="document")
check(found.embeddings, embed(TEXTS))
assert found.total_tokens > 0
raises(
    voyageai.error.InvalidRequestError,
    lambda: client.embed([""], model=MODEL),
    "empty",
)
wrong = voyageai.Client(api_key="wrong", base_url=BASE)
raises(voyageai.error.AuthenticationError, lambda: wrong.embed(TEXTS, model=MODEL))
