"""HTTP/1.1 by hand: several requests on one connection, and clients that leave at any moment."""

import asyncio
import random
from dataclasses import dataclass

HOST = "127.0.0.1"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back whole. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Broken(Exception):
    """The connection ended before an answer did, or what came was no HTTP."""


class Connection:
    """One connection, kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.open = True

    async def send(self, content: bytes) -> None:
        """Send bytes. Raises Broken."""
        try:
            self._writer.write(content)
            await self._writer.drain()
        except OSError as error:
            raise Broken(f"sending: {error!r}") from None

    async def read(self) -> Reply:
        """The next answer, whole. Raises Broken."""
        try:
            status, headers = await self.read_head()
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, ValueError, KeyError, asyncio.LimitOverrunError) as error:
            raise Broken(f"reading: {error!r}") from None
        if headers.get("connection", "").lower() == "close":
            self.open = False
        return Reply(status, headers, body)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        version, status, _ = first.split(" ", 2)
        if version != "HTTP/1.1":
            raise ValueError(f"the answer begins with {first!r}")
        fields = (line.partition(":") for line in lines if line)
        return int(status), {name.strip().lower(): value.strip() for name, _, value in fields}

    async def read_some(self) -> bytes:
        """The first bytes that come; none at the end. Raises Broken."""
        try:
            return await self._reader.read(256)
        except OSError as error:
            raise Broken(f"reading: {error!r}") from None

    def close(self, *, rudely: bool = False) -> None:
        """End it: with a FIN, or rudely, with what is unsent thrown away."""
        self.open = False
        if rudely:
            self._writer.transport.abort()
        else:
            self._writer.close()


class Client:
    """Connections to one server, kept and used again."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._idle: list[Connection] = []

    async def connect(self) -> Connection:
        """A connection of one's own. Raises Broken."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self._port, limit=_CHUNK)
        except OSError as error:
            raise Broken(f"connecting: {error!r}") from None
        return Connection(reader, writer)

    async def take(self) -> Connection:
        """An idle connection, or a new one."""
        while self._idle:
            # Not always the same: some rest long, others do most of the work.
            connection = self._idle.pop(self._chance.randrange(len(self._idle)))
            if connection.open:
                return connection
        return await self.connect()

    def give(self, connection: Connection) -> None:
        """Give one back after its last answer was read."""
        if connection.open:
            self._idle.append(connection)
        else:
            connection.close()

    async def ask(self, content: bytes) -> Reply:
        """The answer to one request on any connection. Raises Broken."""
        connection = await self.take()
        try:
            await connection.send(content)
            reply = await connection.read()
        except BaseException:
            connection.close(rudely=True)
            raise
        self.give(connection)
        return reply

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def write_request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
