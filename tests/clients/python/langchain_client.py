"""LangChain: OpenAI's class, Infinity's, and Hugging Face's inference API."""

from known import KEY, MODEL, TEXTS, URL, check, embed
from langchain_community.embeddings import HuggingFaceInferenceAPIEmbeddings
from langchain_openai import OpenAIEmbeddings

openai = OpenAIEmbeddings(
    model=MODEL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
)
check(openai.embed_documents(TEXTS), embed(TEXTS))
hub = HuggingFaceInferenceAPIEmbeddings(api_key=KEY, api_url=f"{URL}/models/{MODEL}")
check(hub.embed_documents(TEXTS), embed(TEXTS))
