"""litellm: embeddings as OpenAI's, reranking as Cohere's, Jina's and the others'."""

import litellm
from known import KEY, LONG, MODEL, RANKER, TEXTS, URL, check, embed, raises, rank

litellm.suppress_debug_info = True
for name, base in (
    ("openai", f"{URL}/v1"),
    ("hosted_vllm", f"{URL}/v1"),
    ("together_ai", f"{URL}/v1"),
    ("jina_ai", f"{URL}/v1"),
    ("infinity", URL),
    ("infinity", f"{URL}/infinity"),
    ("cohere", f"{URL}/v1/embed"),
    ("cohere", f"{URL}/v2/embed"),
    ("voyage", f"{URL}/voyage/v1"),
):
    answer = litellm.embedding(model=f"{name}/{MODEL}", input=TEXTS, api_base=base, api_key=KEY)
    check([entry["embedding"] for entry in answer.data], embed(TEXTS))
# Without a type it asks huggingface.co for the model's own.
answer = litellm.embedding(
    model=f"huggingface/{MODEL}", input=TEXTS, api_base=URL, api_key=KEY, input_type="embed"
)
check([entry["embedding"] for entry in answer.data], embed(TEXTS))
wanted = rank("who is the king", TEXTS)
for name, base in (
    ("cohere", URL),
    ("cohere", f"{URL}/v2/rerank"),
    ("jina_ai", f"{URL}/v1"),
    ("jina_ai", f"{URL}/v1/rerank"),
    ("hosted_vllm", URL),
    ("together_ai", f"{URL}/v1"),
    ("huggingface", f"{URL}/tei/{RANKER}"),
    ("infinity", f"{URL}/infinity"),
    ("voyage", f"{URL}/voyage/v1"),
):
    ranked = litellm.rerank(
        model=f"{name}/{RANKER}",
        query="who is the king",
        documents=TEXTS,
        top_n=2,
        api_base=base,
        api_key=KEY,
    )
    check([(each["index"], each["relevance_score"]) for each in ranked.results], wanted)
raises(
    litellm.ContextWindowExceededError,
    lambda: litellm.embedding(
        model=f"openai/{MODEL}", input=[LONG], api_base=f"{URL}/v1", api_key=KEY
    ),
)
