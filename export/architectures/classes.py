"""Where the class of an architecture, of a family's base model and of its config are found."""

from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from export.architectures.crammed_bert import (
    CrammedBertConfig,
    CrammedBertForPreTraining,
    CrammedBertForSequenceClassification,
    CrammedBertModel,
)
from export.architectures.jina_bert import (
    JinaBertConfig,
    JinaBertForMaskedLM,
    JinaBertForSequenceClassification,
    JinaBertModel,
)

# Classes of our own, by the names that checkpoints have for them.
_OWN: dict[str, Any] = {
    "ScriptableLM": CrammedBertModel,
    "ScriptableLMForPreTraining": CrammedBertForPreTraining,
    "ScriptableLMForSequenceClassification": CrammedBertForSequenceClassification,
    "JinaBertModel": JinaBertModel,
    "JinaBertForMaskedLM": JinaBertForMaskedLM,
    "JinaBertForSequenceClassification": JinaBertForSequenceClassification,
}
# Of a family that transformers has none of, its config's class and the name of its base model's.
_FAMILIES: dict[str, tuple[Any, str]] = {
    "crammedBERT": (CrammedBertConfig, "ScriptableLM"),
    "jina_bert": (JinaBertConfig, "JinaBertModel"),
}


def is_own(family: str) -> bool:
    """Whether a family's classes are ours."""
    return family in _FAMILIES


def find_class(name: str) -> Any:
    """The class of that name, ours or else transformers'; None where there is none."""
    return _OWN.get(name) or getattr(transformers, name, None)


def find_config(family: str) -> Any:
    """The class of a family's configs."""
    return _FAMILIES[family][0] if is_own(family) else CONFIG_MAPPING[family]


def name_base(family: str) -> str:
    """The name of the class of a family's base model."""
    return _FAMILIES[family][1] if is_own(family) else str(MODEL_MAPPING_NAMES[family])
