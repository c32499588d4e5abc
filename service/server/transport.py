"""What an answer is written to, and when more is read: uvicorn's transport and flow, narrowed."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Joined(asyncio.Transport):
    """What an answer is written to: its head leaves with the beginning of its body, as ASGI has it.

    uvloop sends at once what it is given: in two parts, an answer costs two system calls and two
    packets, and its client wakes up twice.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        super().__init__()
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Send it, unless it is the head."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        elif self._head is None and self._cycle.response_started:
            self._head = data
        else:
            # More of a body, or that it may be sent (100 Continue).
            self._transport.write(data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what is held, and hang up."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether no more can be sent."""
        return self._transport.is_closing()

    def part(self) -> None:
        """Leave the answer with the plain transport: the two refer to each other no more.

        Else each request would be left to the collector, with all that it holds.
        """
        self._cycle.transport = self._transport


class PatientFlow(FlowControl):
    """Reads no more while it is `behind`: while requests wait that have come already."""

    behind = False

    def resume_reading(self) -> None:
        """Read on, unless it is behind."""
        if not self.behind:
            super().resume_reading()
