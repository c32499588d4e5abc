"""openai: embeddings, models, and errors by their kind."""

import openai
from known import KEY, LONG, MODEL, TEXTS, URL, check, embed, raises

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
answer = client.embeddings.create(model=MODEL, input=TEXTS)
check([entry.embedding for entry in answer.data], embed(TEXTS))
assert next(iter(client.models.list())).id == MODEL
raises(
    openai.BadRequestError,
    lambda: client.embeddings.create(model=MODEL, input=LONG),
    "maximum context length",
)
raises(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=""))
raises(openai.NotFoundError, lambda: client.embeddings.create(model="gpt", input="a"))
# What LangChain's class sends unless it is told otherwise: ids of another tokenizer.
raises(
    openai.UnprocessableEntityError,
    lambda: client.embeddings.create(model=MODEL, input=[[1820, 11352]]),
    "check_embedding_ctx_length",
)
wrong = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
raises(openai.AuthenticationError, lambda: wrong.embeddings.create(model=MODEL, input="a"))
