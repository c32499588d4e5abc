"""What a BERT is and how one is run once: bundles, tokens, packing, sessions, heads.

Knows no torch, no transformers and no HTTP. The public face is `Pipeline`.
"""

from models.pipeline import Pipeline

__all__ = ["Pipeline"]
