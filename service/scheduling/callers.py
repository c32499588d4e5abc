"""Who has how much waiting in a lane, so that one caller's backlog is its own wait.

A text of who has less waiting than the caller with the most counts as having come earlier, by as
much work as it has less: so it stands where it would if it had as much waiting. Texts of one who
asks little come before most of those of one who asks without end, and those are still due some
time, whoever comes later. Where all have as much waiting, or there is one, it is order of arrival.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class _Account:
    """Of one caller: seconds of its work that wait, and of how many texts."""

    waiting_s: float = 0.0
    texts: int = 0


class Callers:
    """The callers whose texts wait in a lane; what has no caller's name comes as it comes."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._most_s: float | None = 0.0  # that one of them has waiting; None: to be looked for

    def find_lead(self, caller: str) -> float:
        """Seconds of work by which a text that comes now counts as having come earlier."""
        return max(0.0, self._find_most() - self.waiting_s(caller)) if caller else 0.0

    def count_with(self, caller: str) -> int:
        """How many have texts that wait, and this one."""
        return len(self._accounts) + (caller not in self._accounts)

    def waiting_s(self, caller: str) -> float:
        """Seconds of the caller's work that wait."""
        account = self._accounts.get(caller)
        return 0.0 if account is None else account.waiting_s

    def add(self, caller: str, texts: int, work_s: float) -> None:
        """Texts of a caller wait."""
        if caller:
            account = self._accounts.setdefault(caller, _Account())
            account.texts += texts
            account.waiting_s += work_s
            if self._most_s is not None:
                self._most_s = max(self._most_s, account.waiting_s)

    def remove(self, caller: str, texts: int, work_s: float) -> None:
        """They wait no more."""
        account = self._accounts.get(caller)
        if account is None:
            return
        if self._most_s is not None and account.waiting_s >= self._most_s:
            self._most_s = None
        account.texts -= texts
        account.waiting_s = max(0.0, account.waiting_s - work_s)
        if account.texts <= 0:
            del self._accounts[caller]

    def _find_most(self) -> float:
        if self._most_s is None:
            self._most_s = max((each.waiting_s for each in self._accounts.values()), default=0.0)
        return self._most_s
