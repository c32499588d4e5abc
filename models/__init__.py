"""What a BERT is and how one is run once: bundles, tokens, packing, sessions, heads.

Knows no torch, no transformers and no HTTP. The public face is `Pipeline`, which is loaded when it
is asked for: whoever wants the errors alone waits for neither numpy nor an engine.
"""

import os
from typing import TYPE_CHECKING, Any

# Said before onnxruntime is imported: it would write an id of this machine into the user's cache,
# with events that name the system and the program, and send them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from models.pipeline import Pipeline
else:

    def __getattr__(name: str) -> Any:
        if name == "Pipeline":
            from models.pipeline import Pipeline

            return Pipeline
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Pipeline"]
