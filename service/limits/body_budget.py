"""How many bytes of requests the process holds at once, of all connections together.

What one request may have is bounded elsewhere; this bounds what many of them hold, whether they
still arrive, wait, or are computed.
"""

from models.errors import SettingsError
from models.machine.memory import find_memory_limit
from service.errors import TooMuchPending
from service.settings import Settings

_DEFAULT_BYTES = 128 << 20
# Of the memory of a container: a body takes several times its bytes while it is parsed.
_SHARE = 8
# Requests up to this are small: an eighth of the room is theirs alone.
SMALL_BYTES = 64 << 10
_KEPT = 8


class Budget:
    """Counts bytes that are held; one a process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @classmethod
    def of(cls, settings: Settings) -> "Budget":
        """The budget an operator has set, or else one that suits the memory there is.

        Raises SettingsError where the largest body would never fit.
        """
        largest = settings.max_body_bytes
        if not settings.max_pending_bytes:
            memory = find_memory_limit()
            suited = _DEFAULT_BYTES if memory is None else min(_DEFAULT_BYTES, memory // _SHARE)
            return cls(max(suited, 2 * largest))
        budget = cls(settings.max_pending_bytes)
        if budget.find_room(largest) < largest:
            raise SettingsError(
                f"CLOZE_MAX_PENDING_BYTES is {budget.limit}, in which a body of "
                f"CLOZE_MAX_BODY_BYTES, {largest}, would never fit; set it to twice that"
            )
        return budget

    def find_room(self, size: int) -> int:
        """The bytes that all requests may hold once one of them is of that size."""
        return self.limit if size <= SMALL_BYTES else self.limit - self.limit // _KEPT

    def refuse(self) -> TooMuchPending:
        """The error of a request that does not fit."""
        return TooMuchPending(
            f"with this body, requests of more than {self.limit} bytes would be held at once; "
            "try again"
        )
