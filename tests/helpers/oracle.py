"""What transformers' own classes answer, a text at a time: the tests' measure of right."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from models import Pipeline
from tests.helpers.checkpoints import WORDS

Floats = NDArray[np.float32]
Text = str | tuple[str, str]

# Letters that are several characters, or become several; words that have no spaces between them.
ODD_WORDS = (
    *(
        "naïve",
        "café",
        "cafe\u0301",
        "e\u0301tude",
        "man\u0303ana",
        "Ångström",
        "Straße",
        "İstanbul",
    ),
    *(
        "😀",
        "🎉🎉",
        "👩\u200d👩\u200d👧",
        "🇫🇷",
        "👋🏽",
        "日本語",
        "今日は",
        "雨が降る",
        "東京",
        "漢字とかな",
    ),
    *("ﬁne", "½", "Ⅳ", "ｆｕｌｌ", "x²", "don't", "(paris)", "U.S.", "10:30", "…", "king's"),
    *("العربية", "हिन्दी", "กำลัง", "ὅτι", "q\u0307\u0323", "Zoë", "o\u0308", "¿Qué?"),
)
SEPARATORS = (*(" " for _ in range(12)), "  ", ", ", ". ", "\n", "\t", "\u00a0", "\u3000", "-", "")


class Original:
    """A checkpoint in transformers, with plain attention: no code of ours, nor any fused kernel."""

    def __init__(self, folder: Path, architecture: str | None = None) -> None:
        config = AutoConfig.from_pretrained(folder)
        kind: Any = getattr(transformers, architecture or config.architectures[0])
        self._hold(folder, kind.from_pretrained(folder, attn_implementation="eager"))

    @classmethod
    def with_head(cls, folder: Path, name: str) -> "Original":
        """A head of `heads/`, with the trunk under it as they would be in one checkpoint."""
        config = AutoConfig.from_pretrained(folder / "heads" / name)
        kind: Any = getattr(transformers, config.architectures[0])
        model = kind._from_config(config, attn_implementation="eager")
        prefix = f"{model.base_model_prefix}."
        weights = load_file(folder / "model.safetensors")
        if not any(key.startswith(prefix) for key in weights):
            weights = {prefix + key: value for key, value in weights.items()}
        trunk = {key: value for key, value in weights.items() if key.startswith(prefix)}
        own = load_file(folder / "heads" / name / "model.safetensors")
        model.load_state_dict(
            {key: value for key, value in trunk.items() if not key.startswith(f"{prefix}pooler")}
            | own,
            strict=True,
        )
        original = cls.__new__(cls)
        original._hold(folder, model)
        return original

    def _hold(self, folder: Path, model: Any) -> None:
        self.folder = folder
        self.config = model.config
        self.model = model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if model.config.model_type == "albert":
            # As transformers 4 has it, which it was trained with; 5 leaves the segments out.
            self.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        self.max_tokens: int = self.tokenizer.model_max_length
        # Some tokenizers of transformers 5 leave them out unasked (huggingface/transformers#48128).
        pair = self.tokenizer("a", "a", return_token_type_ids=True)
        kinds = getattr(model.config, "type_vocab_size", 0) or 0
        self.segments: bool = kinds > 1 and 1 in pair["token_type_ids"]

    def tokens(self, text: Text) -> Any:
        """The inputs of the model, cut to its length as transformers cuts them."""
        first, second = (text, None) if isinstance(text, str) else text
        return self.tokenizer(
            first,
            second,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
            return_token_type_ids=self.segments,
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


class Asked:
    """Answers questions from their contexts, as transformers 4.57's QuestionAnsweringPipeline did.

        transformers 5 has no such pipeline. This mirrors, window by window: its `preprocess` with a
    fast tokenizer (at most 384 tokens, an overlap of 128 or half of that, `only_second`); its
    `select_starts_ends` and `decode_spans` (softmax over the context and the CLS token, outer
    product, upper triangle, band); its `postprocess` (words, merging of equal texts, the null
    answer). Spans of score 0, which it adds in no order where there are too few others, are
    left out; of equal scores the first in the matrix comes first, which it leaves to numpy.
    """

    def __init__(self, original: Original) -> None:
        self.model = original.model
        self.tokenizer = original.tokenizer
        self.segments = original.segments

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_answer_len: int = 15,
        doc_stride: int | None = None,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
    ) -> list[dict[str, Any]]:
        """The pipeline's answers, best first."""
        found: list[dict[str, Any]] = []
        null_score = 1_000_000.0
        for encoding, start_logits, end_logits in self.windows(question, context, doc_stride):
            ids = np.array(encoding.ids)
            desired = np.array([text == 1 for text in encoding.sequence_ids])
            desired |= ids == self.tokenizer.cls_token_id
            start, end = (
                torch.from_numpy(np.where(desired, logits, -10_000.0)).softmax(-1).numpy()
                for logits in (start_logits, end_logits)
            )
            null_score = min(null_score, float(start[0] * end[0]))
            start[0] = end[0] = 0.0
            matrix = np.tril(np.triu(np.outer(start, end)), max_answer_len - 1)
            wanted = top_k * 2 + 10 if align_to_words else top_k
            for place in np.argsort(-matrix.ravel(), kind="stable")[:wanted]:
                first, last = np.unravel_index(place, matrix.shape)
                if not (desired[first] and desired[last] and matrix[first, last]):
                    continue
                begin, stop = find_characters(encoding, first, last, align=align_to_words)
                text, score = context[begin:stop], float(matrix[first, last])
                same = [one for one in found if one["answer"].lower() == text.lower()]
                if same:
                    same[0]["score"] += score
                else:
                    found.append({"score": score, "start": begin, "end": stop, "answer": text})
        if handle_impossible_answer:
            found.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        return sorted(found, key=lambda one: one["score"], reverse=True)[:top_k]

    def windows(self, question: str, context: str, doc_stride: int | None = None) -> list[Any]:
        """Each window's encoding, with the logits of start and end [tokens], in float64."""
        length = min(self.tokenizer.model_max_length, 384)
        batch = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=min(length // 2, 128) if doc_stride is None else doc_stride,
            return_overflowing_tokens=True,
            return_token_type_ids=self.segments,
        )
        found = []
        for number, ids in enumerate(batch["input_ids"]):
            inputs = {
                name: torch.tensor([batch[name][number]])
                for name in ("input_ids", "attention_mask", "token_type_ids")
                if name in batch
            }
            assert inputs["input_ids"][0].tolist() == ids
            with torch.inference_mode():
                output = self.model(**inputs)
            logits = (output.start_logits[0].double(), output.end_logits[0].double())
            found.append((batch.encodings[number], *(side.numpy() for side in logits)))
        return found


def find_characters(encoding: Any, first: Any, last: Any, *, align: bool) -> tuple[int, int]:
    """Start and end in the context of the words of two tokens, or of the tokens themselves."""
    words = [encoding.token_to_word(int(token)) for token in (first, last)]
    if not align or None in words:
        return encoding.offsets[first][0], encoding.offsets[last][1]
    begin, stop = (encoding.word_to_chars(word, sequence_index=1) for word in words)
    return begin[0], stop[1]


class Exported:
    """A checkpoint with its bundle, each opened when it is first asked for.

    The original may be asked for by the name of a head in `heads/`.
    """

    def __init__(self, source: Path, bundle: Path, head: str | None = None) -> None:
        self.source = source
        self.bundle = bundle
        self.head = head
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
            self._original = (
                Original.with_head(self.source, self.head) if self.head else Original(self.source)
            )
        return self._original


def pool(hidden: Floats, pooling: str = "mean") -> Floats:
    """Hidden states as one vector, not normalised."""
    match pooling:
        case "cls":
            first: Floats = hidden[0]
            return first
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


def write_contexts(count: int, longest: int = 150, seed: int = 9) -> list[str]:
    """Texts with accents, emoji, CJK, combining characters and odd spaces among their words."""
    source = random.Random(seed)
    contexts = []
    for _ in range(count):
        text = ""
        for _ in range(source.randint(2, longest)):
            text += source.choice(ODD_WORDS if source.random() < 0.3 else WORDS)
            text += source.choice(SEPARATORS)
        contexts.append(text)
    return contexts
