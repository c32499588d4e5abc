"""What transformers' own classes answer, a text at a time: the tests' measure of right."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer

from models import Pipeline
from tests.checkpoints import WORDS

Floats = NDArray[np.float32]
Text = str | tuple[str, str]


class Original:
    """A checkpoint in transformers, with plain attention: no code of ours, nor any fused kernel."""

    def __init__(self, folder: Path, architecture: str | None = None) -> None:
        self.folder = folder
        self.config = AutoConfig.from_pretrained(folder)
        kind: Any = getattr(transformers, architecture or self.config.architectures[0])
        self.model = kind.from_pretrained(folder, attn_implementation="eager").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_tokens: int = self.tokenizer.model_max_length

    def tokens(self, text: Text) -> Any:
        """The inputs of the model, cut to its length as transformers cuts them."""
        first, second = (text, None) if isinstance(text, str) else text
        return self.tokenizer(
            first, second, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )

    def hidden(self, text: Text) -> Floats:
        """The last hidden states [T, H]."""
        with torch.inference_mode():
            output = self.model(**self.tokens(text), output_hidden_states=True)
        states: Floats = output.hidden_states[-1][0].numpy()
        return states

    def hidden_of_ids(self, ids: list[int]) -> Floats:
        """The last hidden states of token ids given as they are."""
        with torch.inference_mode():
            output = self.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        states: Floats = output.hidden_states[-1][0].numpy()
        return states

    def logits(self, text: Text, output: str = "logits") -> Floats:
        """The logits of a head, without the dimension of the batch."""
        with torch.inference_mode():
            found: Floats = self.model(**self.tokens(text))[output][0].numpy()
        return found

    def mask_scores(self, text: str, output: str = "logits") -> Floats:
        """Probabilities over the vocabulary [masks, V] for the model's own mask token."""
        masks = self.tokens(text)["input_ids"][0] == self.tokenizer.mask_token_id
        logits = torch.from_numpy(self.logits(text, output))[masks]
        return logits.double().softmax(-1).float().numpy()


class Exported:
    """A checkpoint with its bundle, each opened when it is first asked for."""

    def __init__(self, source: Path, bundle: Path) -> None:
        self.source = source
        self.bundle = bundle
        self._pipeline: Pipeline | None = None
        self._original: Original | None = None

    @property
    def pipeline(self) -> Pipeline:
        """The bundle, running."""
        if self._pipeline is None:
            self._pipeline = Pipeline.open(self.bundle, threads=1)
        return self._pipeline

    @property
    def original(self) -> Original:
        """The checkpoint, running."""
        if self._original is None:
            self._original = Original(self.source)
        return self._original


def pool(hidden: Floats, pooling: str = "mean") -> Floats:
    """Hidden states as one vector, not normalised."""
    match pooling:
        case "cls":
            return hidden[0]
        case "max":
            vector: Floats = hidden.max(axis=0)
            return vector
    mean: Floats = hidden.mean(axis=0)
    return mean


def write_text(source: random.Random, words: int) -> str:
    """So many words of the tiny vocabularies."""
    return " ".join(source.choices(WORDS, k=words))


def write_texts(count: int, longest: int = 90, seed: int = 7) -> list[str]:
    """Texts of mixed lengths: the shortest, some that are too long, foreign ones among them."""
    source = random.Random(seed)
    texts = ["a", "日本", "x" * longest, "Walking, naïvely: 😀 un café!", "the king of france"]
    texts += [write_text(source, source.randint(1, longest)) for _ in range(count - len(texts))]
    source.shuffle(texts)
    return texts


def write_pairs(count: int, longest: int = 60, seed: int = 8) -> list[tuple[str, str]]:
    """Pairs of mixed lengths, some of them too long together."""
    source = random.Random(seed)
    firsts = write_texts(count, longest, seed)
    pairs = [(first, write_text(source, source.randint(1, longest))) for first in firsts]
    return [
        (second, first) if source.random() < 0.5 else (first, second) for first, second in pairs
    ]
