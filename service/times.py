"""Where the milliseconds of one request went. Told in `Server-Timing` and in metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Times:
    """Seconds a request spent being tokenised, waiting, computed and decoded."""

    tokenize: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    decode: float = 0.0

    def header(self) -> str:
        """The value of the Server-Timing header (W3C Server Timing), in milliseconds."""
        return (
            f"tokenize;dur={self.tokenize * 1e3:.3f}, queue;dur={self.queue * 1e3:.3f}, "
            f"infer;dur={self.infer * 1e3:.3f}, decode;dur={self.decode * 1e3:.3f}"
        )
