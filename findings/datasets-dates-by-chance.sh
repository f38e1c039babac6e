#!/bin/sh
# Expected: a column of JSON strings is a column of strings.
# Happens: if every row looks like a date the column becomes datetimes, so '2020-01-01' is printed
# as 2020-01-01 00:00:00; one row that is no date keeps all as strings.
# Matters: the type depends on the sample: an answers column passes in the full set and fails, or
# scores 0, in a subset of date questions.
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
print("datasets", datasets.__version__)
first = {}
for name, rows in (("dates", ["2020-01-01", "1969-07-20"]), ("dates and a word", ["2020-01-01", "never"])):
    with open("answers.jsonl", "w") as file:
        file.writelines(json.dumps({"answer": row}) + "\n" for row in rows)
    data = datasets.load_dataset("json", data_files="answers.jsonl", split="train", cache_dir=name)
    first[name] = str(data[0]["answer"])
    print(f"{name} {rows}: type {data.features['answer'].dtype}, the first as text {first[name]!r}")
assert first == {"dates": "2020-01-01 00:00:00", "dates and a word": "2020-01-01"}, "changed"
PYTHON
