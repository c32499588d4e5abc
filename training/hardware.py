"""What the machine can do: its device, and whether it computes in bfloat16 natively."""

import contextlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hardware:
    """Where to compute, and how."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 products within, where the hardware has them; weights stay fp32."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def __str__(self) -> str:
        return f"{self.device.type}, {'bf16' if self.bfloat16 else 'fp32'}"


def find_hardware() -> Hardware:
    """CUDA when there, else the processor; bf16 where it has units for it.

    Elsewhere bf16 is emulated, ten times slower than fp32.
    """
    if torch.cuda.is_available():
        return Hardware(
            torch.device("cuda"), torch.cuda.is_bf16_supported(including_emulation=False)
        )
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return Hardware(torch.device("cpu"), native)
