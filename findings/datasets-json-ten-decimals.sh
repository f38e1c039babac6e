#!/bin/sh
# Expected: Dataset.to_json writes floats that read back as they were, as json.dumps does.
# Happens: floats get ten decimals, not ten digits: 6.7e-11 comes back as 1e-10, 2e-11 as 0, NaN and
# infinity as null.
# Matters: log-probabilities of rare tokens, learning rates, gradients and embeddings stored this
# way are changed or zero, and KL from them too.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import datasets, json

datasets.disable_progress_bars()
values = [1 / 3, 2 / 3 * 1e-10, 2e-11, 1e-5 / 3]
datasets.Dataset.from_dict({"value": values}).to_json("values.jsonl")
with open("values.jsonl") as file:
    back = [json.loads(line)["value"] for line in file]
print("datasets", datasets.__version__)
for value, read in zip(values, back):
    print(f"{value!r} comes back as {read!r}")
assert json.loads(json.dumps(values)) == values
assert back == [0.3333333333, 1e-10, 0.0, 3.3333e-6], "changed"
PYTHON
