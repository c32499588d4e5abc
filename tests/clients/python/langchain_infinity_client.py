"""LangChain's class for Infinity, which has no place for a key."""

from known import MODEL, TEXTS, URL, check, embed
from langchain_community.embeddings import InfinityEmbeddings

for base in (URL, f"{URL}/infinity", f"{URL}/v1"):
    infinity = InfinityEmbeddings(model=MODEL, infinity_api_url=base)
    check(infinity.embed_documents(TEXTS), embed(TEXTS))
