"""The root of every error Cloze raises on purpose, grouped by who can mend it.

    ClozeError
    ├── CallerError             the request can be changed
    │   ├── InvalidValue            a value outside what is allowed
    │   ├── EmptyInput              a text without a single token
    │   ├── InputTooLong            more tokens than the model was trained for
    │   ├── MissingMask             fill-mask without a mask
    │   ├── InvalidToken            a token id outside the vocabulary
    │   ├── ForeignTokens           ids that the model's own tokenizer gives of no text
    │   ├── InvalidTarget           a target that is not one token of the vocabulary
    │   ├── TooManyInputs           more items than one request may carry
    │   ├── ModelNotFound           no bundle of that name
    │   ├── TaskUnsupported         the bundle has no head for the task
    │   └── HeadNotFound            the task has no head of that name
    ├── OperatorError           the installation can be changed
    │   ├── SettingsError           a setting or flag that cannot be used
    │   └── BundleError             a bundle that cannot be opened
    │       ├── BundleNotFound          no directory, or no manifest in it
    │       ├── BundleDamaged           a file is missing or is not what was exported
    │       ├── BundleTooNew            written by a newer exporter
    │       └── AnswersWrong            other answers here than where it was proven
    └── InternalError           ours: a bug
        └── RunStopped              ended by a call of `stop`, which should say why to the caller

service/errors.py adds what time does to a request, export/errors.py what goes wrong in exporting.
"""

import sys
from typing import ClassVar, Self


class ClozeError(Exception):
    """An error with a sentence for people, and a stable word in `code` for programs."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return f"{self.param}: {self.message}" if self.param else self.message


class CallerError(ClozeError):
    """The request cannot be answered as it was sent."""

    code = "caller_error"

    def at(self, field: str, index: int | None = None) -> Self:
        """The same error, saying which item of which field it is about."""
        where = field if index is None else f"{field}[{index}]"
        self.param = f"{where}.{self.param}" if self.param else where
        return self


class InvalidValue(CallerError):
    """A value outside what the model or the route allows."""

    code = "invalid_value"


class EmptyInput(CallerError):
    """A text without a single token."""

    code = "empty_input"


class InputTooLong(CallerError):
    """More tokens than the model was trained for, and `overflow` is `error`."""

    code = "input_too_long"


class MissingMask(CallerError):
    """A text for fill-mask with nothing to fill."""

    code = "missing_mask"


class InvalidToken(CallerError):
    """A token id outside the model's vocabulary."""

    code = "invalid_token"


class ForeignTokens(CallerError):
    """Token ids that do not begin and end as the model's own tokenizer begins and ends a text."""

    code = "foreign_tokens"


class InvalidTarget(CallerError):
    """A fill-mask target that is not exactly one token of the vocabulary."""

    code = "invalid_target"


class TooManyInputs(CallerError):
    """More items than one request may carry."""

    code = "too_many_inputs"


class ModelNotFound(CallerError):
    """No loaded bundle has that name."""

    code = "model_not_found"


class TaskUnsupported(CallerError):
    """No head for the task in the bundle that was asked.

    `by_name`: one may have it, but too little is known of that to answer unasked.
    """

    code = "task_unsupported"
    by_name = False


class HeadNotFound(CallerError):
    """The task has heads, but none of that name."""

    code = "head_not_found"


class OperatorError(ClozeError):
    """The installation, not the request, has to change."""

    code = "misconfigured"


class SettingsError(OperatorError):
    """A setting or a flag that cannot be used."""

    code = "invalid_settings"


class BundleError(OperatorError):
    """A bundle that cannot be opened."""

    code = "bundle_unusable"


class BundleNotFound(BundleError):
    """No bundle at that path."""

    code = "bundle_not_found"


class BundleDamaged(BundleError):
    """A file of the bundle is missing, or is not the one that was exported."""

    code = "bundle_damaged"


class BundleTooNew(BundleError):
    """The bundle was written by a newer exporter than this reader."""

    code = "bundle_too_new"


class AnswersWrong(BundleError):
    """The bundle's golden answers come out otherwise on this machine."""

    code = "answers_wrong"


class InternalError(ClozeError):
    """A bug of ours: logged whole, told without internals."""

    code = "internal_error"


class RunStopped(InternalError):
    """A computation was ended before its end by whoever called `stop`."""

    code = "run_stopped"


def explain_missing(error: ModuleNotFoundError, target: str, extra: str) -> str:
    """What to do where this Python lacks a package: the environment of `make TARGET` has it."""
    own = (error.name or "").partition(".")[0] in {"models", "service", "export"}
    wanted = "run it in the folder of the repository" if own else f"install Cloze{extra} into it"
    return (
        f"{sys.executable} has no package {error.name}; {wanted}, or run it with "
        f"{target}/bin/python, which `make {target}/.done` makes"
    )
