"""Whether requests are traced, as the environment variables of OpenTelemetry say.

Without an endpoint nothing of OpenTelemetry is imported; with one, spans.py does the rest.
"""

import os
from typing import TYPE_CHECKING

from models.errors import SettingsError

if TYPE_CHECKING:
    from service.observability.spans import Spans

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def start_tracing(version: str) -> "Spans | None":
    """Spans that go to the endpoint of the environment; None without one. Raises SettingsError."""
    if not any(map(_read, _ENDPOINTS)):
        return None
    if _read("OTEL_SDK_DISABLED").lower() == "true" or _read("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in _PROTOCOLS:
        if _read(name) not in ("", _PROTOCOL):
            raise SettingsError(
                f"{name} is {_read(name)!r}, but the service speaks {_PROTOCOL} alone; set it so, "
                "and let the endpoint be the collector's port for HTTP (4318 by default)"
            )
    from service.observability.spans import Spans

    return Spans(version)


def _read(name: str) -> str:
    return os.environ.get(name, "").strip()
