"""Every metric of the service moves with what it counts."""

from tests.service.server import STAGES, Server


def test_answers_move_the_counts(tiny: Server) -> None:
    name = tiny.models[0].name

    def read() -> dict[str, float]:
        found = {
            "tokens": tiny.read_metric("cloze_tokens_total", model=name, task="embed"),
            "batches": tiny.read_metric("cloze_batch_seconds_count", model=name),
            "batch texts": tiny.read_metric("cloze_batch_texts_sum", model=name),
            "batch tokens": tiny.read_metric("cloze_batch_tokens_sum", model=name),
            "requests": tiny.read_metric("cloze_request_seconds_count", route="/v1/embeddings"),
        }
        for stage in STAGES:
            found[stage] = tiny.read_metric("cloze_stage_seconds_count", stage=stage)
        return found

    before = read()
    answer = tiny.answer("/v1/embeddings", {"input": ["rain", "snow and rain"]})
    after = read()
    tokens = answer["usage"]["prompt_tokens"]
    assert {key: after[key] - before[key] for key in after} == {
        "tokens": tokens,
        "batches": 1,
        "batch texts": 2,
        "batch tokens": tokens,
        "requests": 1,
        "tokenize": 1,
        "queue": 1,
        "infer": 1,
        "decode": 1,
    }
    assert tiny.read_metric("cloze_batch_seconds_sum", model=name) > 0


def test_refused_requests_are_no_tokens(tiny: Server) -> None:
    name = tiny.models[0].name
    before = tiny.read_metric("cloze_batch_tokens_sum", model=name)
    tiny.refuse("/v1/embeddings", {"input": ["rain", ""]}, 422, "empty_input", "input[1]")
    assert tiny.read_metric("cloze_batch_tokens_sum", model=name) == before
