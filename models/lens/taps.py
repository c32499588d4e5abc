"""Where a trunk's graph shows what a person looks at: its attention nodes, and its word vectors.

Owns how they are found: by what a node is and what it takes, never by a name.
"""

from dataclasses import dataclass

from models.lens.graph import Graph, Node, Tensor

_FUSED = ("com.microsoft", "MultiHeadAttention")
_IDS = "input_ids"
# What tokens pass on their way to the table of their words, in whichever layout.
_CARRIERS = ("Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity", "Gather", "GatherND")


@dataclass(frozen=True, slots=True)
class AttentionTap:
    """An attention node: the names of its queries and keys [rows, cells, heads * size].

    `bias` is what it adds to their products, empty where it adds nothing.
    """

    query: str
    key: str
    bias: str
    heads: int
    scale: float | None

    @property
    def names(self) -> tuple[str, ...]:
        """What has to be asked for."""
        return (self.query, self.key, *((self.bias,) if self.bias else ()))


def find_attention(graph: Graph) -> list[AttentionTap] | None:
    """The attention node of each layer, first to last; None where they cannot be followed.

    That is where the graph has none, or one that takes more than queries, keys, values and a bias.
    """
    nodes = [node for node in graph.nodes if (node.domain, node.operation) == _FUSED]
    taps = [_read_tap(node) for node in nodes]
    found = [tap for tap in taps if tap is not None]
    return found if found and len(found) == len(taps) else None


def _read_tap(node: Node) -> AttentionTap | None:
    taken = [*node.inputs, *[""] * 6]
    bias = taken.pop(5)
    heads = node.attributes.get("num_heads")
    if any(taken[3:]) or not heads or node.attributes.get("unidirectional"):
        return None
    return AttentionTap(taken[0], taken[1], bias, int(heads), node.attributes.get("scale"))


def find_words(graph: Graph, vocabulary_size: int) -> Tensor | None:
    """The table with a row for each token of the vocabulary, by which ids become vectors."""
    carried = {_IDS}
    for node in graph.nodes:
        if node.operation == "Gather" and node.inputs[1] in carried:
            table = graph.find_weight(node.inputs[0])
            if table is not None and len(table.shape) == 2 and table.shape[0] == vocabulary_size:
                return table
        if node.operation in _CARRIERS and carried.intersection(node.inputs[:1]):
            carried.update(node.outputs)
    return None
