"""A collector of traces for tests: a real HTTP server that takes OTLP, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.helpers.server import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came over the wire."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    failed: bool
    resource: dict[str, Any]


@dataclass(slots=True)
class Collector:
    """What was sent so far."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def find(self, name: str) -> list[Span]:
        """The spans of that name, in the order of their beginnings."""
        return sorted((s for s in self.spans if s.name == name), key=lambda s: s.began_ns)

    def below(self, span: Span) -> dict[str, list[Span]]:
        """The spans whose parent it is, by name."""
        found: dict[str, list[Span]] = {}
        for one in self.spans:
            if one.parent == span.id:
                assert one.trace == span.trace
                found.setdefault(one.name, []).append(one)
        return found


@contextmanager
def collect(patch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Take traces until the block ends; services that start in it send theirs here."""

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            collector.raw.append(content)
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            collector.spans.extend(_read(content))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join(PATIENCE_S)


def _read(content: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(content)
    for group in request.resource_spans:
        resource = _list_attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    attributes=_list_attributes(span.attributes),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    resource=resource,
                )


def _list_attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
