"""The id of a request, and the line that the log has of it when it is over."""

import os
import re
from typing import Any

import structlog
from starlette.types import Scope

from service.endpoint import Endpoint
from service.error_response import find_outcome
from service.observability.request_record import RequestRecord
from service.scope import KEY
from service.settings import Settings

# What the id of a caller may be; anything else is replaced by one of ours.
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MOST_TEXTS = 16
_MOST_CHARACTERS = 200
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

_log = structlog.get_logger(__name__)


def check_request_id(given: bytes) -> str:
    """The id that a caller gave, if it is one, else a new one."""
    return str(given, "ascii") if _ID.fullmatch(given) else os.urandom(16).hex()


class AccessLog:
    """Writes a line for the requests that the settings ask for: none, those that failed, all."""

    def __init__(self, settings: Settings) -> None:
        self.all = settings.access_log == "all"
        self._errors = settings.access_log != "off"
        self._clients = settings.log_clients
        self._texts = settings.log_texts

    def write(
        self,
        scope: Scope,
        endpoint: Endpoint,
        status: int,
        seconds: float,
        record: RequestRecord,
    ) -> None:
        """Log one request that is over, if it is asked for."""
        failed = not 0 < status < 500
        if not (
            self.all
            # A replica that starts says so itself, not each time it is asked.
            or (failed and self._errors and not endpoint.probe)
            or (self._texts and record.texts and status >= 400)
        ):
            return
        line: dict[str, Any] = {
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": endpoint.path,
            "status": status,
            "outcome": find_outcome(status),
            "ms": round(seconds * 1e3, 3),
            "tokenize_ms": round(record.tokenize * 1e3, 3),
            "queue_ms": round(record.queue * 1e3, 3),
            "infer_ms": round(record.infer * 1e3, 3),
            "decode_ms": round(record.decode * 1e3, 3),
            "items": record.items,
            "tokens": record.tokens,
        }
        told = {"dialect": endpoint.spoken, "task": record.task, "model": record.model}
        told |= {"code": record.code, "key": scope.get(KEY, "")}
        line |= {name: value for name, value in told.items() if value}
        if self._clients and scope.get("client"):
            line["client"] = scope["client"][0]
        if self._texts and status >= 400:
            line["texts"] = [str(text)[:_MOST_CHARACTERS] for text in record.texts[:_MOST_TEXTS]]
        (_log.warning if failed else _log.info)("request", request_id=record.request_id, **line)
