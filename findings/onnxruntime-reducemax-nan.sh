#!/bin/sh
# Expected: the maximum of numbers and a NaN is NaN, as in numpy, torch and onnxruntime's own Max.
# Happens: ReduceMax on the CPU ignores a NaN unless it stands first: 1 nan 5 gives 5, nan 1 5 gives
# NaN, along rows and columns.
# Matters: a check for NaN by the maximum of the logits, and quantisation scales from ReduceMax,
# miss it or not by its place.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper


def reduce_max(values, axis):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    node = helper.make_node("ReduceMax", ["x", "axis"], ["y"], keepdims=0)
    constant = helper.make_tensor("axis", TensorProto.INT64, [1], [axis])
    graph = helper.make_graph([node], "maximum", ends[:1], ends[1:], [constant])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": numpy.array(values, "f4")})[0].tolist()


print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
nan = numpy.nan
rows = [[1, nan, 5], [5, nan, 1], [nan, 1, 5]]
by_row = reduce_max(rows, 1)
by_column = reduce_max([[1, nan], [nan, 1], [5, 5]], 0)
print("rows", rows, "->", by_row)
print("columns [1, nan, 5] and [nan, 1, 5] ->", by_column)
assert by_row[:2] == [5.0, 5.0] and numpy.isnan(by_row[2]), "changed"
assert by_column[0] == 5.0 and numpy.isnan(by_column[1]), "changed"
PYTHON
