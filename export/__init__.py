"""Checkpoint to bundle. The only place that imports torch and transformers."""

import os

# Said before either is imported (models/__init__.py says why).
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
