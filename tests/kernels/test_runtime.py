"""ONNX Runtime's C API as we declare it: places and sizes, held against its own header."""

import re
import subprocess
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "kernels" / "src" / "runtime.h"
# Debian's libonnxruntime-dev, or where .ci/run unpacks it.
HEADERS = [
    Path("/usr/include/onnxruntime/onnxruntime_c_api.h"),
    Path("/usr/local/include/onnxruntime/onnxruntime_c_api.h"),
]
HEADER = next((each for each in HEADERS if each.is_file()), None)
pytestmark = pytest.mark.skipif(HEADER is None, reason="libonnxruntime-dev is not installed")


def test_places_and_sizes_are_those_of_the_header(tmp_path: Path) -> None:
    assert HEADER is not None
    (_, table) = RUNTIME.read_text().split("enum Place")
    places = re.findall(r"^  k(\w+) = (\d+),$", table, re.MULTILINE)
    assert len(places) > 12
    named = {
        "CustomOpDomainAdd": "CustomOpDomain_Add",
        "KernelInfoGetAttributeFloat": "KernelInfoGetAttribute_float",
        "KernelInfoGetAttributeInt64": "KernelInfoGetAttribute_int64",
        "KernelContextGetInput": "KernelContext_GetInput",
        "KernelContextGetOutput": "KernelContext_GetOutput",
        "KernelContextParallelFor": "KernelContext_ParallelFor",
    }
    lines = [
        f"static_assert(offsetof(OrtApi, {named.get(name, name)}) == {place} * sizeof(void*));"
        for name, place in places
    ]
    fields = {
        "get_name": "GetName",
        "get_input_type": "GetInputType",
        "kernel_destroy": "KernelDestroy",
        "get_input_characteristic": "GetInputCharacteristic",
        "create_kernel_v2": "CreateKernelV2",
        "kernel_compute_v2": "KernelComputeV2",
        "infer_output_shape": "InferOutputShapeFn",
        "get_end_version": "GetEndVersion",
        "release_alias_map": "ReleaseAliasMap",
    }
    lines += [
        f"static_assert(offsetof(Ours, {ours}) == offsetof(OrtCustomOp, {theirs}));"
        for ours, theirs in fields.items()
    ]
    lines += [
        "static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 == 16);",
        "static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 == 7);",
        "static_assert(ORT_INVALID_ARGUMENT == 2 && ORT_INVALID_GRAPH == 10);",
        "static_assert(INPUT_OUTPUT_OPTIONAL == 1);",
        "static_assert(offsetof(OrtApiBase, GetApi) == 0);",
    ]
    code = tmp_path / "places.cc"
    code.write_text(
        f'#include "{HEADER}"\n#include <cstddef>\n#include "{RUNTIME}"\n'
        "using Ours = cloze::runtime::CustomOp;\n" + "\n".join(lines) + "\n"
    )
    command = ["c++", "-std=c++17", "-fsyntax-only", str(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
