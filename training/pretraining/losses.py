"""The two losses of BERT's pre-training, of one batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForPreTraining

from training.pretraining.batches import Batch
from training.trunk import run_trunk


@dataclass(frozen=True)
class Outcome:
    """Of one batch: the loss to go down, and what to report."""

    loss: Tensor
    mlm_loss: Tensor
    mlm_accuracy: Tensor
    nsp_accuracy: Tensor  # NaN without pairs

    def figures(self) -> dict[str, float]:
        """What to report, by name."""
        names = ("loss", "mlm_loss", "mlm_accuracy", "nsp_accuracy")
        return {name: getattr(self, name).item() for name in names}


def compute_outcome(model: BertForPreTraining, batch: Batch) -> Outcome:
    """The mean MLM loss over masked tokens plus the mean NSP loss over pairs."""
    device = model.device
    pairs = len(batch.pair_cells)
    wanted = torch.from_numpy(batch.pair_cells), torch.from_numpy(batch.masked_cells)
    hidden = run_trunk(model.bert, batch.rows, torch.cat(wanted).to(device))
    gold = torch.from_numpy(batch.masked_ids).to(device)
    logits = model.cls.predictions(hidden[pairs:])
    mlm_loss = F.cross_entropy(logits.float(), gold)
    mlm_accuracy = (logits.argmax(-1) == gold).float().mean()
    if not pairs:
        return Outcome(mlm_loss, mlm_loss, mlm_accuracy, torch.tensor(torch.nan))
    labels = torch.from_numpy(batch.pair_labels).to(device)
    scores = model.cls.seq_relationship(model.bert.pooler(hidden[:pairs, None]))
    nsp_loss = F.cross_entropy(scores.float(), labels)
    nsp_accuracy = (scores.argmax(-1) == labels).float().mean()
    return Outcome(mlm_loss + nsp_loss, mlm_loss, mlm_accuracy, nsp_accuracy)
