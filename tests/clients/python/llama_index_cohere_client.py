"""llama-index's ranker for Cohere."""

from known import KEY, RANKER, TEXTS, URL, check, rank
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank

ranker = CohereRerank(base_url=URL, api_key=KEY, model=RANKER, top_n=2)
nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
found = ranker.postprocess_nodes(nodes, QueryBundle("who is the king"))
wanted = rank("who is the king", TEXTS)
assert [node.node.get_content() for node in found] == [TEXTS[place] for place, _ in wanted]
check([node.score for node in found], [score for _, score in wanted])
