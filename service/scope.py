"""What one layer leaves in the ASGI scope of a request for another: the names, and nothing else."""

from typing import Final

# Our connection's, of a request that arrives over one: that connections are too many, what the
# request holds of the budget of bytes, whom to ask to be told when its client leaves, the error
# that was answered in the application's place, before all of the request had come, and its task.
CROWDED: Final = "cloze.crowded"
CLAIM: Final = "cloze.claim"
DEPARTURE: Final = "cloze.departure"
REFUSED: Final = "cloze.refused"
TASK: Final = "cloze.task"
# The instrument's: what is known of the request, and what its path leads to.
RECORD: Final = "cloze.record"
ENDPOINT: Final = "cloze.endpoint"
# The access control's: the name of the key that let it in, and until when it wants its answer.
KEY: Final = "cloze.key"
DEADLINE: Final = "cloze.deadline"
# The route's: the fields of a request that nobody read, for a header of its answer.
IGNORED: Final = "cloze.ignored"
