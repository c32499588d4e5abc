"""infinity-client: its four routes, without a version in their paths."""

from infinity_client import AuthenticatedClient
from infinity_client.api.default import classify as classifying
from infinity_client.api.default import embeddings, models, rerank
from infinity_client.models import ClassifyInput, OpenAIEmbeddingInputText, RerankInput
from known import INFERENCE, KEY, MODEL, RANKER, TEXTS, URL, check, classify, embed, rank

client = AuthenticatedClient(base_url=URL, token=KEY, raise_on_unexpected_status=True)
answer = embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=TEXTS, model=MODEL))
check([entry.embedding for entry in answer.data], embed(TEXTS))
assert models.sync(client=client).data[0].id == MODEL
ranked = rerank.sync(
    client=client,
    body=RerankInput(query="who is the king", documents=TEXTS, model=RANKER, return_documents=True),
)
check(
    [(each.index, each.relevance_score) for each in ranked.results],
    rank("who is the king", TEXTS),
)
assert ranked.results[0].document == TEXTS[ranked.results[0].index]
labels = classifying.sync(client=client, body=ClassifyInput(input_=TEXTS, model=INFERENCE))
check([label.to_dict() for label in labels.data[0]], classify(TEXTS[0], INFERENCE))
