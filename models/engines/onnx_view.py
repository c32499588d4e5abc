"""What nodes inside of a graph take and give, by ONNX Runtime: a second session of few bytes.

Owns its options, which are chosen against memory and not for speed. Weights are mapped from where
they lie: what is read of them are pages of the file, which the system may take back and which the
session that serves has, perhaps, read too. So nothing is laid out anew: no weight is packed for a
kernel (a session that serves keeps all of them so), nothing constant is computed ahead, and what a
run takes is given back after it. One thread computes, the caller's own, so that no other session's
threads are waited for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.engines.onnx_runtime import make_options
from models.errors import BundleDamaged


class OnnxView:
    """A graph whose outputs are asked for by name. Its methods may be called from any thread."""

    def __init__(self, graph: bytes, folder: Path) -> None:
        """Raises BundleDamaged where it cannot be loaded. Its weights lie in files of `folder`."""
        options = make_options(1, spin=False)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
        for key, value in {
            "session.disable_prepacking": "1",
            "session.model_external_initializers_file_folder_path": str(folder.resolve()),
        }.items():
            options.add_session_config_entry(key, value)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BundleDamaged(
                f"a part of a graph in {folder} cannot be loaded by ONNX Runtime "
                f"{onnxruntime.__version__}: {str(error).splitlines()[0]}"
            ) from error
        self._inputs = frozenset(node.name for node in self._session.get_inputs())

    def run(
        self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[np.float32]]:
        """These outputs; what they do not need is not computed, and feeds of no input left out."""
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        used = {name: value for name, value in feeds.items() if name in self._inputs}
        found: list[NDArray[np.float32]] = self._session.run(list(names), used, options)
        return found
