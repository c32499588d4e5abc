"""The optimizer: Muon for the matrices of the layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) steps along the nearest
orthogonal matrix of the momentum; scaled by 0.2 * sqrt(max(rows, columns)) its steps are as large
as AdamW's, so both share one learning rate (Liu et al. 2025, arXiv:2502.16982). torch.optim.Muon
does the same in bfloat16 only, which processors without bf16 units compute ten times slower than
fp32; here the precision is the hardware's.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, from Jordan et al.
_ITERATIONS = 5
_MOMENTUM = 0.95
_WEIGHT_DECAY = 0.01


class Optimizer:
    """Steps the trainable weights of a model; one learning rate for all."""

    def __init__(self, model: nn.Module, weight_decay: float = _WEIGHT_DECAY) -> None:
        self._weight_decay = weight_decay
        self._matrices: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            if weight.ndim == 2 and ".encoder.layer." in f".{name}":
                self._matrices.append(weight)
            else:
                (decayed if weight.ndim == 2 else plain).append(weight)
        self._momenta = [torch.zeros_like(weight) for weight in self._matrices]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves the weights along their gradients and drops these."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for index, weight in enumerate(self._matrices):
            assert weight.grad is not None
            self._momenta[index].lerp_(weight.grad, 1 - _MOMENTUM)
            weight.grad.lerp_(self._momenta[index], _MOMENTUM)
            alike[weight.shape].append(index)
        for shape, indexes in alike.items():
            gradients = [self._matrices[index].grad for index in indexes]
            updates = orthogonalize(torch.stack([g for g in gradients if g is not None]))
            scale = 0.2 * max(shape) ** 0.5
            for index, update in zip(indexes, updates, strict=True):
                weight = self._matrices[index]
                weight.mul_(1 - learning_rate * self._weight_decay)
                weight.add_(update.to(weight.dtype), alpha=-learning_rate * scale)
                weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"momenta": self._momenta, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where state_dict left off."""
        for momentum, saved in zip(self._momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
        self._adam.load_state_dict(state["adam"])


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest matrices [B,m,n] with singular values near 1, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    work = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    wide = work.shape[-2] <= work.shape[-1]
    work = work if wide else work.mT
    work = work / (work.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = work @ work.mT
        work = a * work + torch.baddbmm(b * gram, gram, gram, alpha=c) @ work
    finished: Tensor = work if wide else work.mT
    return finished
