#!/bin/sh
# Expected: 1000 cast to float8_e4m3fn, which ends at 448, gives one answer.
# Happens: torch 2.13 gives 448 (and inf for e5m2, NaN for e4m3fnuz), ml_dtypes NaN, onnx 448 and,
# for infinity in e5m2, 57344: each library has its own rule, torch one per type.
# Matters: a model quantised with one library and checked with another differs just in its outliers,
# and infinities turn into plain numbers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6 onnx==1.23.2
venv/bin/python -I - <<'PYTHON'
import ml_dtypes, numpy, onnx, torch
from onnx import TensorProto, helper, numpy_helper

print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__, "onnx", onnx.__version__)
values = [1000.0, 1e6, numpy.inf]
names = {"float8_e4m3fn": "FLOAT8E4M3FN", "float8_e5m2": "FLOAT8E5M2", "float8_e4m3fnuz": "FLOAT8E4M3FNUZ"}
table = {}
for name, onnx_name in names.items():
    by_torch = torch.tensor(values).to(getattr(torch, name)).float().numpy()
    by_numpy = numpy.array(values, "f4").astype(getattr(ml_dtypes, name)).astype("f4")
    tensor = helper.make_tensor("x", getattr(TensorProto, onnx_name), [3], values)
    by_onnx = numpy_helper.to_array(tensor).astype("f4")
    table[name] = [[str(v) for v in row.tolist()] for row in (by_torch, by_numpy, by_onnx)]
    print(name, "of", values, "| torch", table[name][0], "| ml_dtypes", table[name][1], "| onnx", table[name][2])
assert table == {
    "float8_e4m3fn": [["448.0"] * 3, ["nan"] * 3, ["448.0"] * 3],
    "float8_e5m2": [["1024.0", "inf", "inf"], ["1024.0", "inf", "inf"], ["1024.0", "57344.0", "57344.0"]],
    "float8_e4m3fnuz": [["nan"] * 3, ["nan"] * 3, ["240.0"] * 3],
}, "changed"
PYTHON
