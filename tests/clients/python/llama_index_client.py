"""llama-index: text-embeddings-inference, OpenAI's and what is like it, and its rerankers."""

from known import KEY, MODEL, RANKER, TEXTS, URL, check, embed, rank
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

for base in (URL, f"{URL}/tei/{MODEL}"):
    tei = TextEmbeddingsInference(model_name=MODEL, base_url=base, auth_token=KEY)
    check(tei.get_text_embedding_batch(TEXTS), embed(TEXTS))
for kind in (OpenAILikeEmbedding, OpenAIEmbedding):
    openai = kind(model_name=MODEL, api_base=f"{URL}/v1", api_key=KEY)
    check(openai.get_text_embedding_batch(TEXTS), embed(TEXTS))
nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
wanted = rank("who is the king", TEXTS)
jina = JinaRerank(base_url=f"{URL}/v1", api_key=KEY, model=RANKER, top_n=2)
found = jina.postprocess_nodes(nodes, QueryBundle("who is the king"))
check([node.score for node in found], [score for _, score in wanted])
tei_ranker = TextEmbeddingInference(
    base_url=f"{URL}/tei/{RANKER}", auth_token=f"Bearer {KEY}", model_name=RANKER, top_n=2
)
nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
found = tei_ranker.postprocess_nodes(nodes, QueryBundle("who is the king"))
assert [node.node.get_content() for node in found] == [TEXTS[place] for place, _ in wanted]
