#!/bin/sh
# Expected: a cast of -1 to float8_e8m0fnu, the scale type of MX formats that has no sign and no
# zero, gives NaN or an error.
# Happens: torch gives +1 and onnx too, ml_dtypes gives NaN, onnxruntime gives 5.9e-39; zero is NaN
# for ml_dtypes alone.
# Matters: a scale with a wrong sign or a block of zeros passes through export unseen and multiplies
# weights by something else in each runtime.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
venv/bin/python -I - <<'PYTHON'
import ml_dtypes, numpy, onnx, onnxruntime, torch
from onnx import TensorProto, helper, numpy_helper

print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__, "onnx", onnx.__version__,
      "onnxruntime", onnxruntime.__version__)
values = numpy.array([-1.0, 0.0, 3.0], "f4")
nodes = [helper.make_node("Cast", ["x"], ["scale"], to=TensorProto.FLOAT8E8M0),
         helper.make_node("Cast", ["scale"], ["y"], to=TensorProto.FLOAT)]
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])] for name in "xy"]
model = helper.make_model(helper.make_graph(nodes, "cast", *ends), ir_version=10,
                          opset_imports=[helper.make_opsetid("", 24)])
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
constant = helper.make_tensor("x", TensorProto.FLOAT8E8M0, [3], values.tolist())
results = {
    "torch": torch.from_numpy(values).to(torch.float8_e8m0fnu).float().numpy(),
    "ml_dtypes": values.astype(ml_dtypes.float8_e8m0fnu).astype("f4"),
    "onnx": numpy_helper.to_array(constant).astype("f4"),
    "onnxruntime": session.run(None, {"x": values})[0],
}
for name, result in results.items():
    print(f"{name}: {values.tolist()} -> {result.tolist()}")
assert results["torch"][0] == 1 and results["onnx"][0] == 1 and 0 < results["onnxruntime"][0] < 1e-37, "changed"
assert numpy.isnan(results["ml_dtypes"][:2]).all() and not numpy.isnan(results["torch"]).any(), "changed"
assert all(result[2] == 4.0 for result in results.values()), "changed: rounding of 3"
PYTHON
