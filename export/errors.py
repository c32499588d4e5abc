"""What can go wrong in an export, each with the exit code that scripts can tell it by.

    ExportError
    ├── SourceError         the checkpoint cannot be read                    exit code 3
    ├── UnsupportedModel    read, but not something we can export exactly    exit code 4
    ├── OutputError         the bundle cannot be written there               exit code 5
    └── ProofFailed         the bundle's answers are not the checkpoint's    exit code 6

Wrong arguments exit with 2, as everywhere.
"""

from typing import ClassVar

from models.errors import OperatorError


class ExportError(OperatorError):
    """An export that came to nothing, and left nothing behind."""

    code = "export_failed"
    exit_code: ClassVar[int] = 1


class SourceError(ExportError):
    """The checkpoint cannot be found or read."""

    code = "source_unreadable"
    exit_code = 3


class UnsupportedModel(ExportError):
    """The checkpoint is of a kind that cannot be exported exactly."""

    code = "model_unsupported"
    exit_code = 4


class OutputError(ExportError):
    """The bundle cannot be written where it was asked for."""

    code = "output_unwritable"
    exit_code = 5


class ProofFailed(ExportError):
    """The bundle's answers differ from the original model's by more than the limit."""

    code = "proof_failed"
    exit_code = 6
