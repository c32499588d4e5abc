"""Other names for models: those an operator gives them, and those the hub has for them."""

from collections.abc import Collection, Mapping

import structlog

from models.errors import ModelNotFound, SettingsError

# Stands for every name that nothing else has.
ANY = "*"

_log = structlog.get_logger(__name__)


class Aliases:
    """Finds the loaded model that a name stands for which none of them has itself."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = targets

    def find(self, name: str, loaded: Collection[str]) -> str:
        """The name of the model that is meant. Raises ModelNotFound where it is not loaded."""
        target = self._targets.get(name)
        if target is None:
            # As sentence-transformers/all-MiniLM-L6-v2 is that of the hub's all-MiniLM-L6-v2.
            owner, _, last = name.partition("/")
            target = last if owner and last in loaded else self._targets.get(ANY)
        if target is not None and target in loaded:
            return target
        known = ", ".join(loaded)
        raise ModelNotFound(
            f"no model is named {name[:200]!r}; loaded are {known}, and CLOZE_ALIASES gives them "
            "other names"
            if target is None
            else f"{name!r} stands for {target!r}, which is not loaded; loaded are {known}",
            param="model",
        )

    def list(self, model: str) -> list[str]:
        """What is set to stand for a model."""
        return [alias for alias, target in self._targets.items() if target == model]

    def check(self, loaded: Collection[str], *, changing: bool) -> None:
        """Raise SettingsError for what stands for a model that is not there at the start.

        Of a `changing` set it is logged, since the model may come.
        """
        for alias, target in self._targets.items():
            if target not in loaded:
                message = (
                    f"CLOZE_ALIASES has {alias!r} stand for {target!r}, which is no model here; "
                    f"there are {', '.join(loaded)}"
                )
                if not changing:
                    raise SettingsError(message)
                _log.warning("alias without its model", reason=message)
            if alias in loaded:
                _log.warning("alias not used", alias=alias, reason="a model has that name itself")
