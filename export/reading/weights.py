"""The weights of a checkpoint before any of them is loaded: which files, which tensors, what size.

Read from headers alone, so that what a config asks for can be compared with what is there before
any memory is taken. Code in a pickle never runs: torch's `weights_only` reads it.
"""

import json
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from export.errors import SourceError, UnsupportedModel
from export.reading.files import first_line, has_file, read_object, refuse_pointer

# What torch puts before every name of a model that it was trained in: in parallel, or compiled.
_WRAPPERS = ("module.", "_orig_mod.")
# Files of weights that are not read, and what to do.
_OTHERS = {
    "*.h5": "of TensorFlow; load it with transformers 4 (from_tf=True) and save it again",
    "*.msgpack": "of Flax; load it with transformers 4 (from_flax=True) and save it again",
    "*.onnx": "a graph that was made of a checkpoint; export that checkpoint",
    "onnx/*.onnx": "a graph that was made of a checkpoint; export that checkpoint",
    "*.gguf": "quantised for llama.cpp; export the checkpoint it was made from",
    "*.ckpt": "a pickle of PyTorch Lightning, which is never opened; where you trust it, load it "
    "with its own code and save the model in it with model.save_pretrained()",
}
_REMEDY = "copy or save the checkpoint again"
NOT_NUMBERS = "nothing can be computed with them: export a save from before training diverged"
# As transformers looks for them; an index names the files of a set.
_FORMATS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_FLOATS = ("F64", "F32", "F16", "BF16")
_TORCH_FLOATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a header says of a tensor: its shape, the word for its type, the file it lies in."""

    shape: tuple[int, ...]
    kind: str
    file: Path

    @property
    def floating(self) -> bool:
        """Whether it holds real numbers, not those of a quantised model."""
        return self.kind in _FLOATS


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of a checkpoint's weights, and every tensor in them by name.

    `prefix` stands before each name in the files, and is left out here.
    """

    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    prefix: str = ""

    @property
    def safe(self) -> bool:
        """Whether they are in safetensors, not in a pickle."""
        return self.files[0].suffix == ".safetensors"

    @property
    def largest(self) -> int:
        """The largest dimension of any tensor that holds a number: no size can be above it."""
        sizes = [max(t.shape, default=1) for t in self.tensors.values() if 0 not in t.shape]
        return max(sizes, default=0)


def find_weights(path: Path) -> Weights:
    """The weights in `path`, their headers read and checked. Raises SourceError."""
    for single, index in _FORMATS:
        if has_file(path / single):
            return _unwrap(read_weights([path / single]))
        if has_file(path / index):
            return _unwrap(_read_set(path / index))
    other = find_others(path)
    if other is not None:
        raise SourceError(f"{path} has no weights but {other}")
    raise SourceError(
        f"{path} has no weights; put model.safetensors or pytorch_model.bin beside config.json"
    )


def has_weights(path: Path) -> bool:
    """Whether weights that are read lie in `path`."""
    return any(has_file(path / name) for names in _FORMATS for name in names)


def find_others(path: Path) -> str | None:
    """The first file of weights in `path` that is not read, and what to do; None without any."""
    for pattern, reason in _OTHERS.items():
        for file in sorted(path.glob(pattern))[:1]:
            return f"{file.relative_to(path)}, {reason}"
    return None


def _unwrap(weights: Weights) -> Weights:
    """The weights without the names of what the model was wrapped in, which all names share."""
    prefix, names = "", list(weights.tensors)
    while names:
        wrapper = next((each for each in _WRAPPERS if names[0].startswith(prefix + each)), None)
        if wrapper is None or not all(name.startswith(prefix + wrapper) for name in names):
            break
        prefix += wrapper
    if not prefix:
        return weights
    tensors = {name.removeprefix(prefix): tensor for name, tensor in weights.tensors.items()}
    return Weights(weights.files, tensors, prefix)


def read_weights(files: list[Path]) -> Weights:
    """The headers of these files. Raises SourceError, naming the one that is broken."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        read = _read_safetensors if file.suffix == ".safetensors" else _read_pickle
        for name, tensor in read(file):
            if name in tensors:
                raise SourceError(
                    f"{file} holds {name}, and {tensors[name].file.name} does too; {_REMEDY}"
                )
            tensors[name] = tensor
    return Weights(tuple(files), tensors)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file as fp32, after its header was read. What fails is the library's."""
    content: dict[str, torch.Tensor] = (
        load_file(file)
        if file.suffix == ".safetensors"
        else torch.load(file, map_location="cpu", weights_only=True)
    )
    return {name: tensor.float() for name, tensor in content.items()}


def check_floating(weights: Weights, names: Iterator[str] | set[str]) -> None:
    """Raise UnsupportedModel where a tensor of that name is of integers: a quantised model."""
    for name in sorted(names):
        tensor = weights.tensors.get(name)
        if tensor is not None and not tensor.floating:
            raise UnsupportedModel(
                f"{tensor.file} holds {name} as {tensor.kind}, not as real numbers; "
                "export the checkpoint it was quantised from"
            )


def _read_set(index: Path) -> Weights:
    """The files that an index names, which lie beside it and hold what it says."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise SourceError(f"{index} has no weight_map; {_REMEDY}")
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
            raise SourceError(f"{index} names {name!r}, which is not a file beside it; {_REMEDY}")
    files = [index.parent / name for name in sorted(set(places.values()))]
    for file in files:
        if not has_file(file):
            raise SourceError(f"{index} names {file.name}, which is not there; {_REMEDY}")
        if (file.suffix == ".safetensors") != (index.name == _FORMATS[0][1]):
            raise SourceError(f"{index} names {file.name}, a file of another kind; {_REMEDY}")
    weights = read_weights(files)
    for tensor, name in places.items():
        if tensor not in weights.tensors or weights.tensors[tensor].file.name != name:
            raise SourceError(f"{index} says that {name} holds {tensor}, which it does not")
    return weights


def _read_safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        refuse_pointer(file)
        # Checks that the header is JSON of a sane length, and that offsets, shapes and types agree
        # with one another and with the length of the file.
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                part = stored.get_slice(name)
                yield name, Tensor(tuple(part.get_shape()), part.get_dtype(), file)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            names = json.loads(stream.read(length), object_pairs_hook=_list_names)
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{file} cannot be read: {first_line(error)}; {_REMEDY}") from None
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{file} holds {twice[0]} twice; {_REMEDY}")


def _list_names(pairs: list[tuple[str, object]]) -> list[str]:
    return [name for name, _ in pairs]


def _read_pickle(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        refuse_pointer(file)
        size = os.stat(file).st_size  # noqa: PTH116
        content = torch.load(file, map_location="meta", weights_only=True)
    except SourceError:
        raise
    except Exception as error:
        if _is_cut(file, error):
            raise SourceError(f"{file} is not all there: its end is missing; {_REMEDY}") from None
        raise SourceError(
            f"{file} cannot be loaded as weights alone: {first_line(error)}; convert it to "
            "model.safetensors where you trust it"
        ) from None
    if not isinstance(content, dict):
        raise SourceError(f"{file} holds no tensors by name; {_REMEDY}")
    _refuse_run(file, content)
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise SourceError(f"{file} holds {name!r}, which is not a tensor by name; {_REMEDY}")
        if tensor.nbytes > size:
            raise SourceError(f"{file} is smaller than {name}, which it claims to hold; {_REMEDY}")
        kind = _TORCH_FLOATS.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        yield name, Tensor(tuple(tensor.shape), kind, file)


def _is_cut(file: Path, error: Exception) -> bool:
    """Whether an archive lacks its end, where its contents are listed, or a pickle its own."""
    with file.open("rb") as stream:
        if stream.read(2) == b"PK":
            return not zipfile.is_zipfile(file)
    words = ("truncated", "unexpected EOF")
    return isinstance(error, EOFError) or any(word in str(error) for word in words)


def _refuse_run(file: Path, content: dict[Any, Any]) -> None:
    """Raise SourceError for the state of a training, which has the weights among other things."""
    for name, part in content.items():
        if isinstance(part, dict) and any(isinstance(one, torch.Tensor) for one in part.values()):
            raise SourceError(
                f"{file} is the state of a training: it holds {', '.join(map(repr, content))}, and "
                f"the weights lie in {name!r}; save these alone, torch.save(model.state_dict(), "
                f"{file.name!r})"
            )
