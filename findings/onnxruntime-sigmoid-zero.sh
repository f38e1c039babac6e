#!/bin/sh
# Expected: sigmoid(-20) is 2e-9, as in torch and numpy: float32 holds it with seven digits.
# Happens: onnxruntime's float Sigmoid on the CPU gives exactly 0 from -18 down and is off by half
# at -16; its double Sigmoid and its Exp are right.
# Matters: gates of linear attention take log(sigmoid(x)): the exported model has -inf where the
# original has -20, and its state is wiped out.
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


def run(operations, values):
    dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
    names = "abcd"
    nodes = [helper.make_node(kind, [names[i]], [names[i + 1]]) for i, kind in enumerate(operations)]
    ends = [[helper.make_tensor_value_info(names[i], dtype, values.shape)] for i in (0, len(operations))]
    model = helper.make_model(helper.make_graph(nodes, "graph", *ends), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"a": values})[0]


print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
x = numpy.array([-10, -16, -20, -30], "f4")
exact = 1 / (1 + numpy.exp(-x.astype("f8")))
single, double, gate = run(["Sigmoid"], x), run(["Sigmoid"], x.astype("f8")), run(["Sigmoid", "Log"], x)
print("x", x.tolist())
print("exact", exact.tolist())
print("Sigmoid of float", single.tolist())
print("Sigmoid of double", double.tolist())
print("Log(Sigmoid) of float", gate.tolist())
assert abs(single[0] / exact[0] - 1) < 1e-3 and abs(single[1] / exact[1] - 1) > 0.2, "changed"
assert single[2] == single[3] == 0 and numpy.isneginf(gate[2:]).all() and (double[2:] > 0).all(), "changed"
PYTHON
