"""Pre-training as a course: batches of packed rows, masked anew, through the two losses."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import BertForPreTraining

from training.hardware import Hardware
from training.pretraining.batches import Batch, Epoch
from training.pretraining.losses import compute_outcome
from training.pretraining.optimizer import Optimizer
from training.text.store import TokenStore

_VALIDATION_ROWS = 128
_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Plan:
    """What a step sees.

    Rows are `width` tokens wide, and `long_width` over the last `long_share` of the budget, which
    trains the later positions, as in Devlin et al. 2018. A batch of long rows has fewer of them.
    """

    width: int
    long_width: int
    long_share: float
    rows_per_batch: int
    batches_per_step: int
    seed: int


@dataclass
class Position:
    """Where in the data a run stands: the next row of which epoch, cut to which width."""

    epoch: int = 0
    row: int = 0
    width: int = 0


class PretrainingCourse:
    """MLM and NSP over a corpus, epoch after epoch."""

    title = "pre-training"
    panels: tuple[tuple[str, ...], ...] = (
        ("mlm_loss", "validation_mlm_loss"),
        ("mlm_accuracy", "validation_mlm_accuracy"),
        ("nsp_accuracy", "validation_nsp_accuracy"),
    )
    shown: ClassVar[dict[str, str]] = {
        "mlm_loss": "loss",
        "mlm_accuracy": "mlm",
        "nsp_accuracy": "nsp",
    }

    def __init__(
        self,
        model: BertForPreTraining,
        stores: tuple[TokenStore, TokenStore],
        plan: Plan,
        hardware: Hardware,
    ) -> None:
        self.position = Position()
        self._model = model.to(hardware.device).train()
        self._store, validation_store = stores
        self._plan = plan
        self._hardware = hardware
        self._optimizer = Optimizer(model)
        self._epoch: Epoch | None = None
        self._validation = Epoch(validation_store, plan.width, plan.seed, 0).make_batch(
            0, _VALIDATION_ROWS, model.config.vocab_size, np.random.default_rng(plan.seed)
        )

    def take_step(self, step: int, progress: float, learning_rate: float) -> dict[str, float]:
        """One step of the optimizer over several batches."""
        parts = []
        tokens = 0
        for part in range(self._plan.batches_per_step):
            rng = np.random.default_rng((self._plan.seed, step, part))
            batch = self._read_batch(progress, rng)
            with self._hardware.autocast():
                outcome = compute_outcome(self._model, batch)
            torch.autograd.backward(outcome.loss / self._plan.batches_per_step)
            tokens += batch.rows.tokens
            parts.append(outcome.figures())
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step(learning_rate)
        figures = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
        return {**figures, "tokens": tokens}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same figures on the first rows of the validation text."""
        self._model.eval()
        with self._hardware.autocast():
            figures = compute_outcome(self._model, self._validation).figures()
        self._model.train()
        return {f"validation_{name}": value for name, value in figures.items()}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and position."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "position": asdict(self.position),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where state_dict left off."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        self._epoch = None

    def _read_batch(self, progress: float, rng: np.random.Generator) -> Batch:
        is_long = progress >= 1 - self._plan.long_share
        width = self._plan.long_width if is_long else self._plan.width
        epoch = self._find_epoch(width)
        count = max(1, self._plan.rows_per_batch * self._plan.width // width)
        batch = epoch.make_batch(self.position.row, count, self._model.config.vocab_size, rng)
        self.position.row += count
        return batch

    def _find_epoch(self, width: int) -> Epoch:
        """The rows to read from; the next epoch when these are used up or their width changes."""
        here = self.position
        if here.width == width:
            epoch = self._epoch or Epoch(self._store, width, self._plan.seed, here.epoch)
            if here.row < len(epoch):
                self._epoch = epoch
                return epoch
        here.epoch, here.row, here.width = here.epoch + 1, 0, width
        self._epoch = Epoch(self._store, width, self._plan.seed, here.epoch)
        return self._epoch
