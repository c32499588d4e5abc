"""What differs between the relatives of BERT, a row a family: data, not code.

A family is named by the `model_type` of its config.json. The heads are found by the ending of the
architecture's name, which all families share; what a row says is what they do not share.
"""

from dataclasses import dataclass
from typing import Literal

Layout = Literal["flat", "padded"]


@dataclass(frozen=True, slots=True)
class Family:
    """One family of checkpoints.

    `layout` is how its trunk takes several texts: `flat`, a stream without padding, where every
    operation outside attention sees each token alone. `positions_follow_padding`: position ids
    start at `pad_token_id + 1`, as fairseq numbered them, instead of 0. `pooler` names the
    trunk's modules that turn the first row into the pooled output its heads read.
    `pretraining_tasks` are the tasks that the heads of its `...ForPreTraining` class answer.
    `position_table`: each position has a row of a tensor, so there are no more positions than
    rows; what turns by position, or counts distances, has none.
    """

    name: str
    layout: Layout = "flat"
    positions_follow_padding: bool = False
    pooler: tuple[str, ...] = ()
    pretraining_tasks: tuple[str, ...] = ()
    position_table: bool = True


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("bert", pooler=("pooler",), pretraining_tasks=("fill-mask", "next-sentence")),
        Family("distilbert"),
        Family("roberta", positions_follow_padding=True),
        Family("xlm-roberta", positions_follow_padding=True),
        Family("camembert", positions_follow_padding=True),
        # Its pre-training head tells replaced tokens from real ones: no task of ours.
        Family("electra"),
        # Its pre-training pair head judges the order of sentences, not whether they follow.
        Family(
            "albert",
            pooler=("pooler", "pooler_activation"),
            pretraining_tasks=("fill-mask",),
        ),
        Family("mobilebert", pooler=("pooler",), pretraining_tasks=("fill-mask", "next-sentence")),
        Family("mpnet", positions_follow_padding=True),
        Family("modernbert", position_table=False),
        # Its bias follows from the tokens as well as from their distance, anew in each layer.
        Family("deberta-v2", layout="padded"),
        Family("deberta", layout="padded"),
        Family("nomic_bert", pooler=("pooler",), position_table=False),
        Family("gte", pooler=("pooler",), position_table=False),
        Family("jina_embeddings_v3", position_table=False),
        Family("eurobert", position_table=False),
        Family("ernie", pooler=("pooler",), pretraining_tasks=("fill-mask", "next-sentence")),
        Family("data2vec-text", positions_follow_padding=True),
        Family("xlm-roberta-xl", positions_follow_padding=True),
        Family("roberta-prelayernorm", positions_follow_padding=True),
        # Its adapters are those of one language, which its config names.
        Family("xmod", positions_follow_padding=True),
        # These compute attention themselves.
        Family("rembert", layout="padded", pooler=("pooler",)),
        # Its pre-training pair head judges the order of sentences, too.
        Family(
            "megatron-bert",
            layout="padded",
            pooler=("pooler",),
            pretraining_tasks=("fill-mask",),
        ),
        Family("roformer", layout="padded", position_table=False),
        Family("big_bird", layout="padded", pretraining_tasks=("fill-mask",)),
        # Of these the exporter has classes of its own.
        Family("crammedBERT", pretraining_tasks=("fill-mask",), position_table=False),
        Family("jina_bert", pooler=("pooler",), position_table=False),
    )
}
