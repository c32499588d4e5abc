"""What the heads share: rows gathered for one run of the graph, and two functions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.engines import HostOutput
from models.errors import InternalError
from models.heads import EmbedOptions
from models.heads.head import sigmoid, softmax
from tests.helpers.oracle import Exported

# No denormals: ONNX Runtime, told to count them as zero, tells the thread that runs it.
NUMBERS = st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=1, max_size=20)


@given(NUMBERS)
def test_functions_equal_torch(numbers: list[float]) -> None:
    logits = np.array(numbers, np.float32)
    exact = torch.tensor(numbers, dtype=torch.float64)
    np.testing.assert_allclose(softmax(logits), exact.softmax(0).numpy(), atol=1e-6)
    np.testing.assert_allclose(sigmoid(logits), exact.sigmoid().numpy(), atol=1e-6)
    assert softmax(logits).dtype == sigmoid(logits).dtype == np.float32


def test_functions_do_not_overflow() -> None:
    extreme = np.array([-3e38, 0.0, 3e38], np.float32)
    assert softmax(extreme).tolist() == [0.0, 0.0, 1.0]
    assert sigmoid(extreme).tolist() == [0.0, 0.5, 1.0]


def test_a_head_without_a_graph_has_no_logits(pretraining: Exported) -> None:
    head = pretraining.pipeline.find_head("embed")
    job = head.prepare("a", head.resolve(EmbedOptions()))
    with pytest.raises(InternalError, match="the embed head has no graph"):
        head.logits(HostOutput(np.zeros((3, 32), np.float32)), [job], np.array([0]))
