"""Bytes to the service and back, without a client that would mend them."""

import http.client
import io
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.helpers.server import PATIENCE_S, Server

HEAD = b"Host: x\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as it stood on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def refuse(self, status: int, code: str, param: str | None = None) -> str:
        """The message of an error, which has this status, code and param, and our shape."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/json"
        assert "server-timing" in self.headers
        error = json.loads(self.body)["error"]
        assert error.keys() == {"message", "type", "code", "param"}
        assert (error["code"], error["param"]) == (code, param), error
        assert error["type"] == "invalid_request_error"
        message: str = error["message"]
        return message


def close(request: bytes) -> bytes:
    """The same request, after whose answer the service hangs up."""
    return request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)


def post(path: str, body: Any, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A sound request, but for the headers added to it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST %s HTTP/%s\r\n%sContent-Length: %d\r\n%s\r\n%s" % (
        path.encode(),
        version,
        HEAD,
        len(content),
        lines,
        content,
    )


def connect(server: Server) -> socket.socket:
    """A connection that does not wait for ever."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def send(server: Server, *parts: bytes, end: bool = False) -> list[Answer]:
    """What is answered to these bytes, each part sent by itself, until the service hangs up.

    With `end` the client hangs up its half first.
    """
    with connect(server) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was read
        return read_all(connection)


def read_all(connection: socket.socket, methods: tuple[str, ...] = ()) -> list[Answer]:
    """Every answer until the service hangs up."""
    received = bytearray()
    try:
        while chunk := connection.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass  # it hung up with bytes of ours unread
    stream = _Stream(bytes(received))
    answers = []
    while not stream.is_at_end():
        answers.append(read_one(stream, methods[len(answers)] if methods else "POST"))
    return answers


def read_one(stream: Any, method: str = "POST") -> Answer:
    """The next answer."""
    response = http.client.HTTPResponse(stream, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


class _Stream:
    """Enough of a socket for http.client; several answers are read from it, one after another."""

    def __init__(self, received: bytes) -> None:
        self._file = _Kept(received)

    def makefile(self, mode: str) -> io.BytesIO:
        return self._file

    def is_at_end(self) -> bool:
        return self._file.tell() == len(self._file.getvalue())


class _Kept(io.BytesIO):
    """Stays open for the next answer."""

    def close(self) -> None:
        pass
