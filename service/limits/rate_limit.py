"""Rate limits: one token bucket a caller, each a single number. Knows neither keys nor HTTP."""

import math
import time
from collections.abc import Callable

_MAX_CALLERS = 65_536


class RateLimiter:
    """Lets `rate` requests a second of each caller through, `burst` of them at once.

    A bucket is the moment at which it will be full again (GCRA); a full one is forgotten. At most
    65,536 are kept, the longest known going first.
    """

    def __init__(
        self, rate: float, burst: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / rate
        self._window_s = self._interval_s * (burst or max(1, math.ceil(2 * rate)))
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, caller: str) -> float:
        """0 if the caller may send a request now, else the seconds until it may."""
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now) + self._interval_s
        # A billionth for what additions of floats leave over.
        wait_s = full_at - now - self._window_s
        if wait_s > 1e-9:
            return wait_s
        if len(self._full_at) >= _MAX_CALLERS and caller not in self._full_at:
            self._forget(now)
        self._full_at[caller] = full_at
        return 0.0

    def _forget(self, now: float) -> None:
        self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        for name in list(self._full_at)[: len(self._full_at) - _MAX_CALLERS // 2]:
            del self._full_at[name]
