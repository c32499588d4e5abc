"""What sentence-transformers computes between the pooled vector and its answer.

Dense, LayerNorm and Normalize are built from the checkpoint's files, as sentence_transformers'
modules of these names build and compute them (6.2), without that package. Dropout does nothing at
inference. A Normalize behind the last that has weights is left to the request's `normalize`, unless
vectors are cut behind it: it comes before the cut, and a request's comes after.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from export.errors import SourceError, UnsupportedModel
from export.reading.files import first_line, read_object
from export.reading.sentences.modules import Module
from export.reading.sentences.pooling import refuse_unknown
from export.reading.weights import NOT_NUMBERS, check_floating, find_weights, read_tensors

_SENTENCE = "sentence_embedding"
_TOKENS = "token_embeddings"
# The keys of their config.json.
DENSE_KEYS = {
    *("in_features", "out_features", "bias", "activation_function", "use_residual"),
    *("module_input_name", "module_output_name"),
}
NORM_KEYS = {"dimension"}
# Functions of each number alone, without weights of their own; sentence-transformers makes them
# without arguments, too.
_ACTIVATIONS = {
    f"torch.nn.modules.activation.{name}": name
    for name in (
        *("Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "SELU", "LeakyReLU", "Mish"),
        *("Softplus", "Softsign", "ReLU6", "Hardtanh"),
    )
} | {"torch.nn.modules.linear.Identity": "Identity"}
# What is assumed where a config leaves the field out.
_ACTIVATION = "torch.nn.modules.activation.Tanh"


class Dense(torch.nn.Module):
    """activation(linear(x)), and x itself added where `residual`: [n, in] to [n, out]."""

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        bias: bool,
        activation: torch.nn.Module,
        residual: bool,
    ) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(inside, outside, bias=bias)
        self.activation_function = activation
        self.use_residual = residual
        if residual and inside != outside:
            self.residual = torch.nn.Linear(inside, outside, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project the vectors."""
        projected: torch.Tensor = self.activation_function(self.linear(vectors))
        if not self.use_residual:
            return projected
        return projected + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class LayerNorm(torch.nn.Module):
    """torch's own over a vector [n, D], under the names that the checkpoint's file has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Give the vectors zero mean and unit variance, then scale and shift them."""
        normed: torch.Tensor = self.norm(vectors)
        return normed


class Normalize(torch.nn.Module):
    """Gives each vector length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise the vectors."""
        return torch.nn.functional.normalize(vectors, p=2.0, dim=-1)


def read_projection(
    modules: Sequence[Module], width: int, *, cut: bool = False
) -> torch.nn.Sequential | None:
    """What goes from pooled vectors [n, width] to vectors [n, D]; None where none has weights.

    `cut`: of its vectors fewer dimensions are given unasked. Raises SourceError or
    UnsupportedModel.
    """
    kinds = [module.kind for module in modules]
    computed = ("Dense", "LayerNorm", "Normalize") if cut else ("Dense", "LayerNorm")
    places = [place for place, kind in enumerate(kinds) if kind in computed]
    if not places:
        return None
    if "Pooling" not in kinds[: places[0]]:
        raise UnsupportedModel(
            f"{modules[places[0]].folder} has a {kinds[places[0]]} module before any pooling, "
            "which is not supported: it would change every token"
        )
    parts: list[torch.nn.Module] = []
    for module in modules[kinds.index("Pooling") + 1 : places[-1] + 1]:
        match module.kind:
            case "Normalize":
                _refuse_other_features(module.folder / "config.json")
                parts.append(Normalize())
            case "LayerNorm":
                parts.append(_read_norm(module, width))
            case "Dense":
                dense = _read_dense(module, width)
                width = dense.linear.out_features
                parts.append(dense)
    return torch.nn.Sequential(*parts).eval()


def read_token_modules(
    modules: Sequence[Module], width: int
) -> tuple[list[torch.nn.Module], int, Module | None]:
    """What goes from hidden rows [n, width] to the vectors of tokens [n, D]; D; and the mask.

    Raises SourceError or UnsupportedModel.
    """
    parts: list[torch.nn.Module] = []
    mask = None
    for module in modules[1:]:
        match module.kind:
            case "Normalize":
                _refuse_other_features(module.folder / "config.json", _TOKENS)
                parts.append(Normalize())
            case "Dense":
                dense = _read_dense(module, width, _TOKENS)
                width = dense.linear.out_features
                parts.append(dense)
            case "MultiVectorMask":
                mask = module
            case "Dropout":
                pass
            case kind:
                raise UnsupportedModel(
                    f"{module.folder} has a {kind} module, which no ColBERT here has"
                )
    return parts, width, mask


def _read_norm(module: Module, width: int) -> LayerNorm:
    file = module.folder / "config.json"
    config = read_object(file)
    refuse_unknown(file, config, NORM_KEYS)
    if config.get("dimension") != width:
        raise SourceError(
            f"{file} takes vectors of {config.get('dimension')!r}, and is given vectors of {width}"
        )
    norm = LayerNorm(width)
    _load(module.folder, norm)
    return norm


def _read_dense(module: Module, width: int, feature: str = _SENTENCE) -> Dense:
    file = module.folder / "config.json"
    config = read_object(file)
    refuse_unknown(file, config, DENSE_KEYS)
    largest = find_weights(module.folder).largest
    inside: Any = config.get("in_features")
    outside: Any = config.get("out_features")
    for size in (inside, outside):
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= largest:
            raise SourceError(
                f"{file} asks for in_features {inside!r} and out_features {outside!r}, and its "
                "weights are not of that size"
            )
    if inside != width:
        raise SourceError(f"{file} takes vectors of {inside}, and is given vectors of {width}")
    bias, residual = config.get("bias", True), config.get("use_residual", False)
    if not isinstance(bias, bool) or not isinstance(residual, bool):
        raise SourceError(f"{file} has a bias or use_residual that is neither true nor false")
    _refuse_other_features(file, feature)
    dense = Dense(
        width, outside, bias=bias, activation=_find_activation(file, config), residual=residual
    )
    _load(module.folder, dense)
    return dense


def _find_activation(file: Path, config: dict[str, Any]) -> torch.nn.Module:
    name = config.get("activation_function", _ACTIVATION)
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{file} asks for the activation {name!r}; supported are "
            f"{', '.join(sorted(_ACTIVATIONS.values()))} of torch.nn"
        )
    activation: torch.nn.Module = getattr(torch.nn, _ACTIVATIONS[name])()
    return activation


def _refuse_other_features(file: Path, feature: str = _SENTENCE) -> None:
    """A module may read or write something else than the vector of the text, or of its tokens."""
    config = read_object(file, required=False)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, feature):
            raise UnsupportedModel(f"{file} has {key} {config[key]!r}; supported is {feature}")


def _load(folder: Path, module: torch.nn.Module) -> None:
    stored = find_weights(folder)
    wanted = module.state_dict()
    check_floating(stored, set(wanted))
    found = {name: tensor.shape for name, tensor in stored.tensors.items()}
    if found != {name: tuple(value.shape) for name, value in wanted.items()}:
        raise SourceError(
            f"{stored.files[0]} holds "
            + (", ".join(f"{name} {list(shape)}" for name, shape in found.items()) or "nothing")
            + f", and {folder / 'config.json'} asks for "
            + ", ".join(f"{name} {list(value.shape)}" for name, value in wanted.items())
        )
    try:
        for file in stored.files:
            module.load_state_dict(read_tensors(file), strict=len(stored.files) == 1)
    except Exception as error:
        raise SourceError(f"the weights in {folder} cannot be read: {first_line(error)}") from None
    for name, value in module.state_dict().items():
        if not torch.isfinite(value).all():
            raise SourceError(
                f"the weights in {folder} are not all numbers: see {name}; {NOT_NUMBERS}"
            )
