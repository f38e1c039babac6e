#!/bin/sh
# Expected: two different integer ids in a JSON file are two different values in the data set.
# Happens: integers from 2**63 on (unsigned 64-bit hashes) turn the column into float64 without a
# warning: ids up to 1024 apart become equal.
# Matters: joins, deduplication and splits by hash then merge or lose documents; msgspec and
# Python's json keep the integers.
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
import json

import datasets

datasets.disable_progress_bars()
ids = [2**64 - 1, 2**64 - 2, 2**64 - 900]
with open("hashes.jsonl", "w") as file:
    file.writelines(json.dumps({"id": number}) + "\n" for number in ids)
data = datasets.load_dataset("json", data_files="hashes.jsonl", split="train")
print("datasets", datasets.__version__, "| type of the column:", data.features["id"].dtype)
print("ids", ids, "read as", data["id"][:], "| different values:", len(set(data["id"][:])))
assert data.features["id"].dtype == "float64" and len(set(data["id"][:])) == 1, "changed"
PYTHON
