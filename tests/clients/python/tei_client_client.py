"""tei-client: vectors, labels and ranks, each of a model at a base of its own."""

from known import INFERENCE, KEY, MODEL, RANKER, TEXTS, URL, ask, check, classify, embed, rank
from tei_client import HttpClient

HEADERS = {"authorization": f"Bearer {KEY}"}


def at(model: str) -> HttpClient:
    """A client of one model."""
    return HttpClient(f"{URL}/tei/{model}", headers=HEADERS)


client = at(MODEL)
assert client.health()
check(client.embed(TEXTS), embed(TEXTS))
assert len(client.embed_all(TEXTS[0])[0]) > 3
(tokens,) = client.tokenize(TEXTS[0])
(known,) = ask("/v1/tokenize", {"inputs": TEXTS[0]})["results"]
assert tokens.get_ids() == [token["id"] for token in known["tokens"]]
(labels,) = at(INFERENCE).classify([TEXTS[0]])
check([label.model_dump() for label in labels.scores], classify(TEXTS[0], INFERENCE))
ranks = at(RANKER).rerank("who is the king", TEXTS).ranks
check([(each.index, each.score) for each in ranks], rank("who is the king", TEXTS))
assert HttpClient(URL, headers=HEADERS).info().max_input_length == 256
