"""Which of a process's threads go first where there are not cores for all of them."""

import os
import sys
import threading
from contextlib import suppress

# Of a core that both want it gets a tenth; a core that nobody wants is its own.
_NICENESS = 10


def give_way() -> None:
    """Let the other threads of this machine go before the one that calls this, from now on.

    Where threads have no priority of their own, nothing happens: elsewhere than on Linux.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
