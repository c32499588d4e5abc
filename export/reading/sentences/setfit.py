"""The classifier of a SetFit checkpoint: logistic regression on sentence-transformers' vector.

SetFit (Tunstall et al. 2022) keeps it in model_head.pkl, a pickle, which is never opened: whoever
trusts it writes its coefficients beside it, once.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from export.errors import SourceError, UnsupportedModel
from export.reading.files import first_line, has_file, read_object
from export.reading.heads import SourceHead
from export.reading.sentences.forms import SetFit, read_form
from export.reading.sentences.projection import Normalize, read_projection
from export.reading.sentences.settings import Sentences

_CONFIG = "config_setfit.json"
_PICKLE = "model_head.pkl"
_COPIES = ("model_head.safetensors", "model_head.json")
# Of several labels at once scikit-learn has an estimator each; `kind` tells those that are more.
_CONVERT = (
    "python -c \"import joblib, json; h = joblib.load('model_head.pkl'); "
    "e = getattr(h, 'estimators_', [h]); one = e[0] is h; json.dump({'kind': type(h).__name__, "
    "'coef': [row for x in e for row in x.coef_.tolist()], "
    "'intercept': [row for x in e for row in x.intercept_.tolist()], "
    "'classes': h.classes_.tolist() if one else None, "
    "'multi_label': not one and getattr(h, 'multilabel_', True)}, open('model_head.json', 'w'))\""
)
_ONE, _SEVERAL = "LogisticRegression", ("OneVsRestClassifier", "MultiOutputClassifier")


class SetFitClassifier(torch.nn.Module):
    """A trunk with SetFit's head: ids of one text in, logits [1, classes] out.

    Of two classes the first has the logit 0, so that softmax gives what the regression does.
    """

    base_model_prefix = "trunk"

    def __init__(
        self,
        trunk: PreTrainedModel,
        *,
        pooling: str,
        vectors: torch.nn.Module,
        coefficients: torch.Tensor,
        intercepts: torch.Tensor,
        multi_label: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = trunk.config
        self.pooling = pooling
        self.vectors = vectors
        self.binary = len(coefficients) == 1 and not multi_label
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("intercepts", intercepts)

    @property
    def base_model(self) -> Any:
        """The trunk."""
        return self.trunk

    def forward(self, ahead: int = 0, **given: Any) -> SequenceClassifierOutput:
        """The logits of one text, or of rows that are pooled already, one in each sequence.

        `ahead` rows of a text are of its prompt, and are not pooled.
        """
        pooled = _pool(self.trunk(**given).last_hidden_state, self.pooling, ahead)
        vectors = self.vectors(pooled)
        logits = vectors @ self.get_buffer("coefficients").T + self.get_buffer("intercepts")
        if self.binary:
            logits = torch.nn.functional.pad(logits, (1, 0))
        return SequenceClassifierOutput(logits=logits)


class _Cut(torch.nn.Module):
    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors[:, : self.dimensions]


def read_setfit(
    path: Path, trunk: PreTrainedModel, sentences: Sentences
) -> tuple[list[SourceHead], list[str]]:
    """SetFit's head of the checkpoint at `path`, and notes; none where there is none.

    Raises SourceError or UnsupportedModel.
    """
    file = next((path / name for name in _COPIES if has_file(path / name)), None)
    if file is None:
        if not has_file(path / _PICKLE):
            return [], []
        return [], [
            f"{_PICKLE} is a pickle and is not opened, so its classifier is left out; where you "
            f"trust it, write its coefficients beside it, in {path}: {_CONVERT}"
        ]
    settings = read_form(path / _CONFIG, SetFit, required=False)
    read = _read_tensors if file.suffix == ".safetensors" else _read_lists
    coefficients, intercepts, classes, multi_label = read(file)
    vectors = _read_vectors(sentences, trunk.config.hidden_size, settings)
    width = vectors(torch.zeros(1, trunk.config.hidden_size)).shape[-1]
    if coefficients.shape != (len(intercepts), width):
        raise SourceError(
            f"{file} has coef {list(coefficients.shape)} and intercept [{len(intercepts)}], and "
            f"the vectors have {width} dimensions; {_describe_wanted(path)}"
        )
    if not (torch.isfinite(coefficients).all() and torch.isfinite(intercepts).all()):
        raise SourceError(f"the coefficients in {file} are not all numbers")
    model = SetFitClassifier(
        trunk,
        pooling=sentences.pooling or "mean",
        vectors=vectors,
        coefficients=coefficients,
        intercepts=intercepts,
        multi_label=multi_label,
    )
    count = 2 if model.binary else len(coefficients)
    head = SourceHead(
        task="classify",
        name=None,
        model=model,
        output="logits",
        labels=_name_labels(file, settings.get("labels"), classes, count),
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
        function="sigmoid" if multi_label else "softmax",
        pooling=sentences.pooling or "mean",
        prompted=True,
        include_prompt=sentences.include_prompt,
    )
    return [head], []


Read = tuple[torch.Tensor, torch.Tensor, list[Any] | None, bool]


def _read_tensors(file: Path) -> Read:
    try:
        with safe_open(file, framework="pt") as stored:
            found = {name.rstrip("_"): stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            said = stored.metadata() or {}
        classes = json.loads(said["classes"]) if "classes" in said else None
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{file} cannot be read: {first_line(error)}") from None
    return _check(file, found, classes, multi_label=said.get("multi_label") == "true")


def _read_lists(file: Path) -> Read:
    content = read_object(file)
    multi_label = content.get("multi_label", False)
    if not isinstance(multi_label, bool):
        raise SourceError(f"{file} has multi_label {multi_label!r}, which is not true or false")
    _check_kind(file, content.get("kind"), multi_label=multi_label)
    try:
        names: list[str] = [name for name in ("coef", "intercept") if name in content]
        found: dict[str, torch.Tensor] = {
            name: torch.tensor(content[name], dtype=torch.float64) for name in names
        }
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{file} cannot be read: {first_line(error)}; {_describe_wanted(file.parent)}"
        ) from None
    return _check(file, found, content.get("classes"), multi_label=multi_label)


def _check_kind(file: Path, kind: Any, *, multi_label: bool) -> None:
    """Raise UnsupportedModel for what scikit-learn computes with more than its coefficients."""
    if kind is None or (kind in _SEVERAL if multi_label else kind == _ONE):
        return
    what = "several labels" if multi_label else "one label of several"
    raise UnsupportedModel(
        f"{file} was made of a {kind} for {what}, which is not computed here; supported is "
        f"{_ONE}, and for several labels at once {' or '.join(_SEVERAL)} of it; leave model_head.* "
        "out to export the vectors alone"
    )


def _describe_wanted(folder: Path) -> str:
    return (
        "wanted are coef [classes, dimensions] and intercept [classes], of two classes one row; "
        f"write it again in {folder}: {_CONVERT}"
    )


def _check(file: Path, found: dict[str, torch.Tensor], classes: Any, *, multi_label: bool) -> Read:
    coefficients, intercepts = found.get("coef"), found.get("intercept")
    if coefficients is None or intercepts is None or coefficients.dim() != 2:
        shapes = (
            f"{name} {list(found[name].shape)}" if name in found else f"no {name}"
            for name in ("coef", "intercept")
        )
        raise SourceError(f"{file} has {' and '.join(shapes)}; {_describe_wanted(file.parent)}")
    if classes is not None and not isinstance(classes, list):
        raise SourceError(f"{file} has classes that are not a list")
    return coefficients.float(), intercepts.reshape(-1).float(), classes, multi_label


def _read_vectors(sentences: Sentences, width: int, settings: dict[str, Any]) -> torch.nn.Module:
    """From the pooled row to the vector that the regression was fitted on."""
    if "+" in (sentences.pooling or ""):
        raise UnsupportedModel(
            f"a SetFit head on several poolings ({sentences.pooling}) is not supported; leave "
            "model_head.* out to export the vectors alone"
        )
    projection = read_projection(sentences.modules, width)
    parts: list[torch.nn.Module] = [projection] if projection is not None else []
    kinds = [module.kind for module in sentences.modules]
    trailing = 0
    while trailing < len(kinds) and kinds[-1 - trailing] in ("Normalize", "Dropout"):
        trailing += 1
    if "Normalize" in kinds[len(kinds) - trailing :]:
        parts.append(Normalize())
    if sentences.dimensions is not None:
        size = torch.nn.Sequential(*parts)(torch.zeros(1, width)).shape[-1]
        parts.append(_Cut(min(sentences.dimensions, size)))
    if settings.get("normalize_embeddings"):
        parts.append(Normalize())
    return torch.nn.Sequential(*parts).eval()


def _name_labels(
    file: Path, labels: Any, classes: Sequence[Any] | None, count: int
) -> tuple[str, ...]:
    """By the names in config_setfit.json, which number the classes, or else by the classes."""
    numbered: Sequence[Any] = range(count) if classes is None else classes
    if len(numbered) != count:
        raise SourceError(f"{file} has {len(numbered)} classes, and coefficients for {count}")
    for one in numbered:
        if not isinstance(one, str | int | float):
            raise SourceError(f"{file} has classes with {one!r}, which is neither text nor number")
    if not labels:
        return _check_apart(file, "classes", tuple(str(one) for one in numbered))
    if any(isinstance(one, int) and not 0 <= one < len(labels) for one in numbered):
        raise SourceError(
            f"{file.parent / _CONFIG} has labels {labels!r}, which do not name the classes "
            f"{list(numbered)}"
        )
    named = tuple(str(labels[one] if isinstance(one, int) else one) for one in numbered)
    return _check_apart(file.parent / _CONFIG, "labels", named)


def _check_apart(file: Path, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise SourceError(
                f"{file} has {key} that call both class {names.index(name)} and class {place} "
                f"{name!r}; give each its own"
            )
    return names


def _pool(states: torch.Tensor, pooling: str, ahead: int) -> torch.Tensor:
    """Rows [n, T, H] as one each [n, H], of texts that have no padding, but for the first few."""
    states = states[:, ahead:]
    match pooling:
        case "cls":
            return states[:, 0]
        case "lasttoken":
            return states[:, -1]
        case "max":
            return states.amax(1)
        case "mean_sqrt_len_tokens":
            return states.sum(1) / math.sqrt(states.shape[1])
        case "weightedmean":
            weights = torch.arange(1, states.shape[1] + 1, dtype=states.dtype) + ahead
            weighted: torch.Tensor = (states * weights[:, None]).sum(1) / weights.sum()
            return weighted
        case _:
            return states.mean(1)
