"""What can go wrong while training, told before hours are spent.

TrainingError
    WrongOption         options that do not go together
    DataMissing         a file of text or labels is not there
    DataDamaged         a file is there but cut short or not in its form
    DataTooSmall        the corpus cannot give what training needs
    RunMismatch         the run to resume was started with other options or other data
    RunDamaged          the saved state of a run cannot be read
    RunExists           the directory holds something that would be lost
    StorageFull         the state could not be written; the last good one still stands
    TrainingDiverged    the loss is no longer a number
"""


class TrainingError(Exception):
    """The root: one sentence that names the item and the remedy."""


class WrongOption(TrainingError):
    """Options that do not go together."""


class DataMissing(TrainingError):
    """A file of text or labels is not there."""


class DataDamaged(TrainingError):
    """A file is there but cut short or not in its form."""


class DataTooSmall(TrainingError):
    """The corpus cannot give what training needs."""


class RunMismatch(TrainingError):
    """The run to resume was started with other options or other data."""


class RunDamaged(TrainingError):
    """The saved state of a run cannot be read."""


class RunExists(TrainingError):
    """The directory holds something that would be lost."""


class StorageFull(TrainingError):
    """The state could not be written; the last good one still stands."""


class TrainingDiverged(TrainingError):
    """The loss is no longer a number."""
