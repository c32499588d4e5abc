"""Load that does not wait for answers: requests arrive by a Poisson process, as those of many do.

A load generator that sends its next request when the last is answered slows down with the server
and hides what a queue does to users ("coordinated omission"): here the time of a request counts
from when it was due, whatever the server does. Owns a client small enough to share the machine
with what it measures: one process on uvloop, callbacks, connections that are kept, bytes made
beforehand. What it takes itself is told, too.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

_MOST_CONNECTIONS = 4096
_LENGTH = b"content-length: "

Heard = Callable[[int], None]


@dataclass(slots=True)
class Seen:
    """What became of the requests of one load."""

    seconds: float
    sent: int = 0
    refused: int = 0  # 429
    failed: int = 0  # any other status, or no answer at all
    latencies_s: list[float] = field(default_factory=list)  # of those answered with 200
    late_s: float = 0.0  # by how much the generator itself was late, at worst
    processor_s: float = 0.0  # that the generator took

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
    """One connection: a request at a time, and the status of its answer; 0 where there is none."""

    def __init__(self, free: Callable[["_Connection"], None]) -> None:
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._heard: Heard | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._heard is not None:
            heard, self._heard = self._heard, None
            heard(0)

    def ask(self, request: bytes, heard: Heard) -> None:
        """Send a request; its status is heard later."""
        if self._transport is None or self._transport.is_closing():
            heard(0)
            return
        self._heard = heard
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0 or self._heard is None:
            return
        place = received.find(_LENGTH) + len(_LENGTH)
        length = int(received[place : received.find(b"\r", place)])
        if len(received) >= end + 4 + length:
            self._received = b""
            heard, self._heard = self._heard, None
            self._free(self)
            heard(int(received[9:12]))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Target:
    """A server, and the connections to it that are free."""

    def __init__(self, host: str, port: int, path: str, headers: dict[str, str]) -> None:
        self._where = host, port
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join([*lines, "Content-Type: application/json", ""]).encode()
        self._idle: list[_Connection] = []
        self._open: list[_Connection] = []
        self._opening: set[asyncio.Task[None]] = set()

    def make_request(self, body: bytes) -> bytes:
        """The bytes of a request."""
        return b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body)

    def ask(self, request: bytes, heard: Heard) -> None:
        """Send a request over a connection that is free, or a new one."""
        if self._idle:
            self._idle.pop().ask(request, heard)
        elif len(self._open) < _MOST_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._connect(request, heard))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            heard(0)

    async def _connect(self, request: bytes, heard: Heard) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(
                lambda: _Connection(self._idle.append), *self._where
            )
        except OSError:
            heard(0)
            return
        self._open.append(made)
        made.ask(request, heard)

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self._open:
            connection.close()


def offer(
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
    waiting = 0

    def send(due: float) -> None:
        nonlocal waiting

        def hear(status: int) -> None:
            nonlocal waiting
            waiting -= 1
            if status == 200:
                seen.latencies_s.append(time.perf_counter() - due)
            elif status == 429:
                seen.refused += 1
            else:
                seen.failed += 1

        waiting += 1
        target.ask(requests[seen.sent % len(requests)], hear)
        seen.sent += 1

    async def play() -> None:
        began = time.perf_counter()
        due = began + chance.expovariate(rate)
        while due < began + seconds:
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            seen.late_s = max(seen.late_s, time.perf_counter() - due)
            send(due)
            due += chance.expovariate(rate)
        end = time.perf_counter() + patience_s
        while waiting and time.perf_counter() < end:  # noqa: ASYNC110 - at the end, nothing hurries
            await asyncio.sleep(0.01)
        target.close()

    spent = time.process_time()
    uvloop.run(play())
    seen.processor_s = time.process_time() - spent
    # Those that still wait have hung up, and count as failed.
    return seen


def saturate(target: Target, bodies: Sequence[bytes], *, connections: int, seconds: float) -> float:
    """Answers a second with so many requests under way all the time: the capacity."""
    requests = [target.make_request(body) for body in bodies]
    answered = sent = 0

    async def play() -> float:
        began = time.perf_counter()
        end = began + seconds
        over = asyncio.Event()
        waiting = connections

        def ask() -> None:
            nonlocal sent
            sent += 1
            target.ask(requests[sent % len(requests)], hear)

        def hear(status: int) -> None:
            nonlocal answered, waiting
            answered += status == 200
            if time.perf_counter() < end:
                ask()
            else:
                waiting -= 1
                if not waiting:
                    over.set()

        for _ in range(connections):
            ask()
        await over.wait()
        target.close()
        return time.perf_counter() - began

    taken = uvloop.run(play())
    return answered / taken
