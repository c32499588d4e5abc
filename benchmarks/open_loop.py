"""Load that does not wait for answers: requests arrive by a Poisson process, as those of many do.

A load generator that sends its next request when the last is answered slows down with the server
and hides what a queue does to users ("coordinated omission"): here the time of a request counts
from when it was due, whatever the server does. Owns a client small enough to share the machine
with what it measures: one process, connections that are kept, headers made beforehand.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST_CONNECTIONS = 4096


@dataclass(slots=True)
class Seen:
    """What became of the requests of one load."""

    seconds: float
    sent: int = 0
    refused: int = 0  # 429
    failed: int = 0  # any other status, or no answer at all
    latencies_s: list[float] = field(default_factory=list)  # of those answered with 200
    late_s: float = 0.0  # by how much the generator itself was late, at worst

    def goodput(self, deadline_s: float) -> float:
        """Requests a second that were answered within the deadline."""
        return sum(latency <= deadline_s for latency in self.latencies_s) / self.seconds

    def percentile_ms(self, part: float) -> float:
        """A percentile of the latencies of those answered; NaN where none was."""
        if not self.latencies_s:
            return float("nan")
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, and the status of its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    @property
    def usable(self) -> bool:
        """Whether it can carry another request."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> int:
        """The status of the answer; 0 where there is none."""
        if self._transport is None:
            return 0
        self._answer = asyncio.get_running_loop().create_future()
        self._received = b""
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._answer is None or self._answer.done():
            return
        lengths = [
            line.partition(b":")[2]
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        if len(body) >= int(lengths[0]):
            self._answer.set_result(int(head[9:12]))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


@dataclass(slots=True)
class Target:
    """A server, and the connections to it that are free."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    idle: list[_Connection] = field(default_factory=list)
    open: int = 0

    def make_request(self, body: bytes) -> bytes:
        """The bytes of a request."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body

    async def ask(self, request: bytes) -> int:
        """The status of an answer, over a connection that is free, or a new one."""
        while self.idle:
            connection = self.idle.pop()
            if connection.usable:
                break
            self.open -= 1
        else:
            if self.open >= _MOST_CONNECTIONS:
                return 0
            self.open += 1
            try:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, self.host, self.port)
            except OSError:
                self.open -= 1
                return 0
        status = await connection.ask(request)
        if connection.usable:
            self.idle.append(connection)
        else:
            self.open -= 1
        return status

    def close(self) -> None:
        """Hang up everywhere."""
        while self.idle:
            self.idle.pop().close()
        self.open = 0


async def offer(
    target: Target,
    bodies: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    patience_s: float,
    seed: int,
) -> Seen:
    """Send so many requests a second, and wait for their answers no longer than `patience_s`."""
    chance = random.Random(seed)
    requests = [target.make_request(body) for body in bodies]
    seen = Seen(seconds)
    began = time.perf_counter()

    async def ask(request: bytes, due: float) -> None:
        status = await target.ask(request)
        if status == 200:
            seen.latencies_s.append(time.perf_counter() - due)
        elif status == 429:
            seen.refused += 1
        else:
            seen.failed += 1

    under_way: set[asyncio.Task[None]] = set()
    due = began + chance.expovariate(rate)
    while due < began + seconds:
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        seen.late_s = max(seen.late_s, time.perf_counter() - due)
        task = asyncio.create_task(ask(requests[seen.sent % len(requests)], due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        seen.sent += 1
        due += chance.expovariate(rate)
    if under_way:
        _, waiting = await asyncio.wait(under_way, timeout=patience_s)
        for task in waiting:
            task.cancel()
        seen.failed += len(waiting)
    return seen


async def saturate(
    target: Target, bodies: Sequence[bytes], *, connections: int, seconds: float
) -> float:
    """Answers a second with so many requests under way all the time: the capacity."""
    requests = [target.make_request(body) for body in bodies]
    end = time.perf_counter() + seconds
    answered = 0
    place = 0

    async def keep_asking() -> None:
        nonlocal answered, place
        while time.perf_counter() < end:
            place += 1
            status = await target.ask(requests[place % len(requests)])
            answered += status == 200

    began = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    return answered / (time.perf_counter() - began)
