"""chromadb's functions: OpenAI's, and Hugging Face's embedding server."""

from chromadb.utils.embedding_functions import (
    HuggingFaceEmbeddingServer,
    OpenAIEmbeddingFunction,
)
from known import KEY, MODEL, TEXTS, URL, check, embed

openai = OpenAIEmbeddingFunction(api_key=KEY, api_base=f"{URL}/v1", model_name=MODEL)
check([vector.tolist() for vector in openai(TEXTS)], embed(TEXTS))
for path in ("/embed", f"/models/{MODEL}", "/"):
    server = HuggingFaceEmbeddingServer(url=URL + path, api_key=KEY)
    check([vector.tolist() for vector in server(TEXTS)], embed(TEXTS))
