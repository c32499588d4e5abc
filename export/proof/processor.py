"""The processor a proof was made on: its name, and the instructions that decide how it rounds."""

import platform
from pathlib import Path

# Of those in /proc/cpuinfo: int8 kernels without VNNI add in 16 bits, and may saturate.
_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
)


def read_processor(file: Path = Path("/proc/cpuinfo")) -> tuple[str, tuple[str, ...]]:
    """Its name and its features, as far as the system tells."""
    fields: dict[str, str] = {}
    try:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    except OSError:
        return platform.processor() or platform.machine(), ()
    flags = set(fields.get("flags", fields.get("features", "")).split())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return name, tuple(feature for feature in _FEATURES if feature in flags)
