#!/bin/sh
# Expected: a JSON string stays a string, whatever the other rows hold.
# Happens: in a column that holds strings and anything else, load_dataset reads the strings as JSON
# once more: '007' becomes 7, 'true' True, 'null' None, '1e3' 1000.0.
# Matters: answer columns of question sets mix numbers and strings; exact match and prompts then see
# other answers than the file's.
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
texts = ["007", "true", "null", "1e3", "[1]", "blue"]
print("datasets", datasets.__version__)
read = {}
for name, rows in (("strings alone", texts), ("strings and one number", texts + [5])):
    with open("answers.jsonl", "w") as file:
        file.writelines(json.dumps({"answer": row}) + "\n" for row in rows)
    read[name] = datasets.load_dataset("json", data_files="answers.jsonl", split="train", cache_dir=name)["answer"][:]
    print(f"{name}: {rows} read as {read[name]}")
assert read["strings alone"] == texts, "changed"
assert read["strings and one number"] == [7, True, None, 1000.0, [1], "blue", 5], "changed"
PYTHON
