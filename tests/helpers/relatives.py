"""The later families, a row each: whose names, whose tokenizer, and what their configs need."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Relative:
    """What a tiny checkpoint of a family is made with, where it is not as BERT's.

    `stem` begins the names of its classes, `tokenizer` is the family whose kind it has. `config`
    goes over the defaults, where None takes a key away; `classifier` is its classifier's.
    """

    stem: str
    tokenizer: str = "bert"
    config: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=lambda: {"labels": ("bad", "good")})
    follows_padding: bool = False


RELATIVES: dict[str, Relative] = {
    "deberta": Relative(
        "Deberta",
        "deberta",
        # As in the published ones: relative positions alone.
        {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": "c2p|p2c",
        },
    ),
    "nomic_bert": Relative("NomicBert"),
    "gte": Relative("Gte", "xlm-roberta", {"type_vocab_size": 1}),
    "jina_embeddings_v3": Relative("JinaEmbeddingsV3", "xlm-roberta", {"type_vocab_size": 1}),
    "eurobert": Relative(
        "EuroBert",
        "modernbert",
        # Fewer heads of keys and values than of queries.
        {"type_vocab_size": None, "num_key_value_heads": 2, "classifier_pooling": "mean"},
    ),
    "ernie": Relative("Ernie", config={"use_task_id": True, "task_type_vocab_size": 3}),
    "data2vec-text": Relative("Data2VecText", "roberta", follows_padding=True),
    "xlm-roberta-xl": Relative("XLMRobertaXL", "xlm-roberta", follows_padding=True),
    "roberta-prelayernorm": Relative("RobertaPreLayerNorm", "roberta", follows_padding=True),
    "xmod": Relative(
        "Xmod",
        "xlm-roberta",
        {"languages": ["en_XX", "de_DE"], "default_language": "de_DE", "pre_norm": True},
        follows_padding=True,
    ),
    "rembert": Relative(
        "RemBert", "rembert", {"input_embedding_size": 16, "output_embedding_size": 24}
    ),
    "megatron-bert": Relative("MegatronBert"),
    "roformer": Relative("RoFormer", config={"embedding_size": 16}),
    "big_bird": Relative("BigBird", "big_bird", {"attention_type": "original_full"}),
}
