"""Fine-tuning as a course: one lesson a step, drawn by its share, all on one trunk."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers import BertForPreTraining

from training.finetuning.heads import ClassifyHead, TagHead
from training.finetuning.lessons import Lesson
from training.finetuning.validation import Validation
from training.hardware import Hardware

_HEAD_RATE = 4.0  # heads start from nothing and learn faster than the trunk
_MAX_GRADIENT_NORM = 1.0
_WEIGHT_DECAY = 0.01
_DROPOUT = 0.1


class FinetuningCourse:
    """Lessons over a pre-trained model and its heads."""

    title = "fine-tuning"
    panels: tuple[tuple[str, ...], ...] = (
        ("sentiment_loss", "emotions_loss", "intents_loss", "entities_loss"),
        ("similarity_loss", "contrast_loss", "teacher_loss"),
        ("rehearsal_loss", "order_loss"),
        ("sentiment_accuracy", "emotions_f1", "intents_accuracy", "entities_accuracy"),
        ("similarity_correlation",),
        ("mlm_accuracy", "nsp_accuracy"),
    )
    shown: ClassVar[dict[str, str]] = {
        "sentiment_loss": "sentiment",
        "emotions_loss": "emotions",
        "intents_loss": "intents",
        "similarity_loss": "similarity",
        "teacher_loss": "teacher",
        "entities_loss": "entities",
        "rehearsal_loss": "rehearsal",
    }

    def __init__(
        self,
        model: BertForPreTraining,
        heads: dict[str, ClassifyHead | TagHead],
        lessons: list[Lesson],
        validation: Validation,
        *,
        hardware: Hardware,
        seed: int,
    ) -> None:
        self._heads = heads
        self._head_weights = nn.ModuleDict(heads).to(hardware.device)
        self._model = model.to(hardware.device)
        self._lessons = lessons
        self._validation = validation
        self._hardware = hardware
        self._seed = seed
        for name, module in self._model.named_modules():
            # Attention's own stays 0: with it the fused kernels are out of reach.
            if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
                module.p = _DROPOUT
        self._weights = [*self._model.parameters(), *self._head_weights.parameters()]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": list(self._model.parameters()), "scale": 1.0},
                {"params": list(self._head_weights.parameters()), "scale": _HEAD_RATE},
            ],
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=_WEIGHT_DECAY,
            fused=True,
        )

    def take_step(self, step: int, progress: float, learning_rate: float) -> dict[str, float]:
        """One lesson and one step of the optimizer."""
        rng = np.random.default_rng((self._seed, step))
        torch.manual_seed(self._seed * 1_000_003 + step)  # dropout, the same when resumed
        shares = np.array([lesson.share for lesson in self._lessons])
        lesson = self._lessons[int(rng.choice(len(shares), p=shares / shares.sum()))]
        self._model.train()
        self._head_weights.train()
        with self._hardware.autocast():
            loss, tokens = lesson.compute_loss(rng)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._weights, _MAX_GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        return {"loss": value, f"{lesson.name}_loss": value, "tokens": tokens}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Figures of every head on texts held out."""
        self._model.eval()
        self._head_weights.eval()
        with self._hardware.autocast():
            return self._validation.judge(self._model, self._heads)

    def state_dict(self) -> dict[str, Any]:
        """Model, heads and optimizer."""
        return {
            "model": self._model.state_dict(),
            "heads": self._head_weights.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where state_dict left off."""
        self._model.load_state_dict(state["model"])
        self._head_weights.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
