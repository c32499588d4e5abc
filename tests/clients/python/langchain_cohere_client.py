"""LangChain's package for Cohere: ranking and embeddings."""

from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, rank
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_core.documents import Document

wanted = rank("who is the king", TEXTS)
ranker = CohereRerank(model=RANKER, base_url=URL, cohere_api_key=KEY)
found = ranker.rerank(TEXTS, "who is the king")
check([(each["index"], each["relevance_score"]) for each in found], wanted)
documents = [Document(page_content=text) for text in TEXTS]
kept = ranker.compress_documents(documents, "who is the king")
assert [document.page_content for document in kept] == [TEXTS[place] for place, _ in wanted]
embedder = CohereEmbeddings(model=MODEL, base_url=URL, cohere_api_key=KEY)
check(embedder.embed_documents(TEXTS), embed(TEXTS))
check(embedder.embed_query(TEXTS[0]), embed(TEXTS[:1])[0])
