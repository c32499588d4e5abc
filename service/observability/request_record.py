"""What is known of one request when it is over, and where its milliseconds went.

Made by the instrument, filled on the way down. Told in `Server-Timing`, metrics, logs and traces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class RequestRecord:
    """Seconds a request spent being tokenised, waiting, computed and decoded; and what it was."""

    tokenize: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    decode: float = 0.0
    # When it began, was handed to the tokenizer, the queue and the decoder: time.perf_counter().
    began: float = 0.0
    prepared: float = 0.0
    submitted: float = 0.0
    decoded: float = 0.0
    request_id: str = ""
    caller: str = ""  # who asks, as others who ask share with it: its key's name, or its address
    model: str = ""  # the loaded model that answers; empty until it is found
    task: str = ""  # what of it is asked; empty until then, too
    items: int = 0
    tokens: int = 0
    code: str = ""  # of the error that was answered; empty if there was none
    texts: Sequence[Any] = ()  # its items, where the operator asks for them in the log
    span: Any = None  # of its trace, where it is traced
