"""The process's server: uvicorn, with an end that loses no request.

uvicorn closes its port at the first signal. Here the port answers until what is under way is
finished, so that a proxy learns from /health/ready that this replica goes, not from refused
connections. Owns signals and exit codes; what is finished and what refused is the drain's.
"""

import asyncio
import math
import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from service.middleware.drain import Drain
from service.observability.log_stream import say
from service.server.addresses import bind, write_url
from service.server.protocol import make_protocol
from service.server.refusals import Refused
from service.settings import Settings

# Who is answered asks again within milliseconds, and had better read why not.
_LINGER_S = 0.5
_LOOK_S = 0.01
_ENDED_AT_ONCE = b'{"event": "ended at once by a second signal", "level": "warning"}\n'

_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process now."""

    def __init__(self, app: FastAPI, settings: Settings, refused: Refused) -> None:
        super().__init__(
            uvicorn.Config(
                # Not the application itself, which would only hand on.
                app.state.entry,
                **bind(settings.host, settings.port),
                loop="auto",
                http=make_protocol(settings, app.state.budget, refused),
                ws="none",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
            )
        )
        self._drain: Drain = app.state.drain
        self._drain_s = settings.drain_s
        self._settings = settings
        self._signal: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal end here, with 128 and its number as a shell would."""
        del frame
        if self._signal is not None:
            # No lock is taken, and no log either: the signal may have come amid one.
            with suppress(OSError, ValueError):
                # Where nobody reads, a write would never return.
                if select.select([], [2], [], 0)[1]:
                    os.write(2, _ENDED_AT_ONCE)
            os._exit(128 + sig)
        self._signal = sig
        self._drain.begin()
        self.should_exit = True

    def run_to_the_end(self) -> int:
        """Serve until a signal, and return the exit code: 1 where it cannot listen."""
        try:
            self.run()
        except SystemExit as leave:
            if leave.code:
                # uvicorn's way to end; it has logged what the system says.
                where = write_url(self._settings.host, self._settings.port).removeprefix("http://")
                say(
                    f"error: cannot listen on {where}; free it, or choose another with --host and "
                    "--port (CLOZE_HOST, CLOZE_PORT)"
                )
                return 1
        return 0

    async def shutdown(self, sockets: Any = None) -> None:
        """Finish what is under way while the port still answers, then close it."""
        self._drain.begin()
        began = time.monotonic()
        _log.info(
            "shutting down",
            signal=signal.Signals(self._signal).name if self._signal is not None else None,
            requests=self._drain.at_begin,
            drain_s=self._drain_s,
        )
        given_up = await self._drain.finish(self._drain_s)
        if given_up:
            _log.warning(
                "requests were not answered within CLOZE_DRAIN_S and got a 503", requests=given_up
            )
        end = began + self._drain_s
        await self._linger(min(end, time.monotonic() + _LINGER_S))
        # What is left are answers on their way to clients who read slowly.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(end - time.monotonic()))
        await super().shutdown(sockets)
        _log.info("ended", seconds=round(time.monotonic() - began, 3))

    async def _linger(self, end: float) -> None:
        """Refuse until then what comes over connections that are open, rather than reset them."""
        # uvicorn tells nobody when a connection goes.
        while self.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
