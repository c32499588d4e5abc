"""huggingface_hub's InferenceClient: every task, by the path of a pipeline and by the bare URL."""

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from known import (
    INFERENCE,
    KEY,
    MODEL,
    READER,
    TEXTS,
    URL,
    ask,
    check,
    classify,
    embed,
    raises,
)

MASKED = "He was born in [MASK] and died in London."
QUESTION = {"question": "Who reads?", "context": "The queen reads a letter."}


def at(task: str, model: str) -> InferenceClient:
    """A client of one task, as its documentation has it for an endpoint."""
    return InferenceClient(base_url=f"{URL}/models/{model}/pipeline/{task}", api_key=KEY)


def check_all(client_of: object) -> None:
    """Every task answers what our own route does."""
    of: object = client_of
    assert callable(of)
    (mask,) = ask("/v1/fill-mask", {"inputs": MASKED})["results"][0]["masks"]
    found = of("fill-mask", MODEL).fill_mask(MASKED)
    check(
        [(each.token_str, each.token, each.score) for each in found],
        [(each["token"], each["token_id"], each["score"]) for each in mask["candidates"]],
    )
    labels = of("text-classification", INFERENCE).text_classification(TEXTS[0])
    check([dict(label) for label in labels], classify(TEXTS[0], INFERENCE))
    entities = of("token-classification", READER).token_classification(TEXTS[0], ignore_labels=[])
    wanted = ask("/v1/token-classify", {"inputs": TEXTS[0], "ignore_labels": []})
    check(
        [(each.entity_group, each.word, each.start, each.score) for each in entities],
        [
            (each["label"], each["word"], each["start"], each["score"])
            for each in wanted["results"][0]["entities"]
        ],
    )
    answer = of("question-answering", READER).question_answering(**QUESTION)
    (known,) = ask("/v1/question-answering", {"inputs": QUESTION})["results"][0]["answers"]
    check(
        (answer.answer, answer.score, answer.start),
        tuple(known[n] for n in ("answer", "score", "start")),
    )
    free = of("zero-shot-classification", INFERENCE).zero_shot_classification(
        TEXTS[0], ["animals", "money"]
    )
    labelled = ask("/v1/classify", {"inputs": TEXTS[0], "labels": ["animals", "money"]})
    check([dict(each) for each in free], labelled["results"][0]["labels"])
    scores = of("sentence-similarity", MODEL).sentence_similarity(TEXTS[0], TEXTS[1:])
    body = {"source": TEXTS[0], "targets": TEXTS[1:]}
    check(scores, ask("/v1/similarity", body)["results"][0]["scores"])
    vectors = of("feature-extraction", MODEL).feature_extraction(TEXTS[0])
    check(vectors.tolist(), embed(TEXTS[:1]))


check_all(at)
check_all(lambda task, model: InferenceClient(base_url=f"{URL}/models/{model}", api_key=KEY))
client = InferenceClient(base_url=URL, api_key=KEY)
endpoint = InferenceClient(model=URL, provider="hf-inference", token=KEY)
assert endpoint.health_check()
assert endpoint.get_endpoint_info()["model_id"] == MODEL
check(client.feature_extraction(TEXTS[0]).tolist(), embed(TEXTS[:1]))
raises(HfHubHTTPError, lambda: at("fill-mask", MODEL).fill_mask("no mask"), "mask")
wrong = InferenceClient(base_url=f"{URL}/models/{MODEL}", api_key="wrong")
raises(HfHubHTTPError, lambda: wrong.feature_extraction("a"), "401")
