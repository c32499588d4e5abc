"""The log: JSON lines on stderr, of this service and of the libraries in it, a line an event.

A line about a request has its id. No line has what a caller sent: exceptions that may quote it are
told without their message, unless the operator asks for texts.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, WrappedLogger

from models.errors import InternalError, OperatorError
from service.observability.log_stream import LOG

# What these say never quotes a request: of tokens ONNX Runtime sees ids and shapes alone.
_QUOTING_NOTHING = (InternalError, OperatorError, MemoryError, OSError)
_WITHHELD = "withheld, since it may quote a request; CLOZE_LOG_TEXTS=true tells it"
# Loggers that speak of requests without knowing which.
_ABOUT_REQUESTS = ("asyncio", "uvicorn", "concurrent")
# What an unreachable collector makes libraries say, again and again.
_REPEATING = ("opentelemetry", "urllib3", "requests")
_REPEAT_AFTER_S = 60.0
_MOST_SAID = 1000
_MOST_CAUSES = 10
_MOST_FRAMES = 50

_log = structlog.get_logger(__name__)


def configure_logging(*, texts: bool = False) -> None:
    """JSON lines on stderr from now on; with `texts`, exceptions are told with their messages."""
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Exceptions(texts=texts),
            # ASCII alone: whatever a value holds, a line stays a line.
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write a line: others write to the same file, and lines must not meet in one.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", LOG)),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forwarder()], level=logging.WARNING, force=True)
    # It quotes headers that it cannot read.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    logging.getLogger("opentelemetry.propagators").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread


class _Forwarder(logging.Handler):
    """Hands what libraries log to structlog; what they repeat, once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, Any], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        try:
            if record.name.startswith(_REPEATING) and not self._is_due(record):
                return
            message = record.getMessage().strip()
            if record.name.startswith(_ABOUT_REQUESTS):
                # What follows shows the task, with the exception in it.
                message = message.partition("\n")[0]
            _log.log(
                record.levelno,
                message,
                logger=record.name,
                exc_info=record.exc_info if record.exc_info and record.exc_info[1] else None,
            )
        except Exception:
            self.handleError(record)

    def _is_due(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        key = (record.name, record.msg)
        if now < self._said.get(key, now):
            return False
        if len(self._said) > _MOST_SAID:
            self._said.clear()
        self._said[key] = now + _REPEAT_AFTER_S
        return True


class _Exceptions:
    """Turns `exc_info` into types, messages and frames, without the variables of the frames."""

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Render the exception of an event, if it has one."""
        given = event.pop("exc_info", None)
        error = given[1] if isinstance(given, tuple) else given
        if given is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseException):
            logger = str(event.get("logger", ""))
            request = "request_id" in event or "requests" in event
            whole = self._texts or not (request or logger.startswith(_ABOUT_REQUESTS))
            event["exception"] = [_describe(one, whole=whole) for one in _list_causes(error)]
        return event


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and what it came from: the latest first."""
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return
        yield found
        hidden = None if found.__suppress_context__ else found.__context__
        found = found.__cause__ or hidden


def _describe(error: BaseException, *, whole: bool) -> dict[str, Any]:
    kind = type(error)
    quoting = not isinstance(error, _QUOTING_NOTHING) and kind.__module__.partition(".")[0] != (
        "onnxruntime"
    )
    told: dict[str, Any] = {
        "exc_type": kind.__name__,
        "exc_value": _WITHHELD if quoting and not whole else str(error),
        "frames": list(_list_frames(error.__traceback__))[-_MOST_FRAMES:],
    }
    if isinstance(error, BaseExceptionGroup):
        told["exceptions"] = [_describe(one, whole=whole) for one in error.exceptions]
    return told


def _list_frames(traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield {"filename": code.co_filename, "lineno": traceback.tb_lineno, "name": code.co_name}
        traceback = traceback.tb_next


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread is not None else None
    # It may have been at work for requests.
    _log.error("a thread has ended", thread=name, requests=[], exc_info=ended.exc_value)
