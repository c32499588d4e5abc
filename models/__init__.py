"""What a BERT is and how one is run once: bundles, tokens, packing, sessions, heads.

Knows no torch, no transformers and no HTTP. The public face is `Pipeline`, which is loaded when it
is asked for: whoever wants the errors alone waits for neither numpy nor an engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.pipeline import Pipeline
else:

    def __getattr__(name: str) -> Any:
        if name == "Pipeline":
            from models.pipeline import Pipeline

            return Pipeline
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Pipeline"]
