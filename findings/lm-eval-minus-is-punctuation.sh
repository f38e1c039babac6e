#!/bin/sh
# Expected: exact_match with ignore_punctuation: true forgives a full stop at the end of an answer.
# Happens: all of ASCII punctuation goes, minus sign and decimal point too: 5 counts as -5, 314 as
# 3.14, 12 as 1/2.
# Matters: arithmetic tasks written after the many that use the option give full marks to wrong
# signs and sizes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    lm_eval==0.4.13 datasets==5.2.0 sacrebleu==2.6.0 scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import json, logging

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

logging.disable(logging.WARNING)

pairs = {"-5": "5", "3.14": "314", "1/2": "12", "5": "5.", "7": "8"}
with open("sums.jsonl", "w") as file:
    file.writelines(json.dumps({"question": answer, "answer": answer}) + "\n" for answer in pairs)
task = {"task": "sums", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
        "output_type": "generate_until", "test_split": "test", "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}", "generation_kwargs": {"until": ["\n"]},
        "metric_list": [{"metric": "exact_match", "ignore_punctuation": True}]}


class Careless(LM):
    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        return [pairs[request.args[0]] for request in requests]


result = lm_eval.simple_evaluate(Careless(), tasks=[task], task_manager=TaskManager(include_defaults=False),
                                 bootstrap_iters=0, log_samples=True)
print("lm_eval", lm_eval.__version__)
scores = {}
for sample in result["samples"]["sums"]:
    answer = sample["doc"]["answer"]
    scores[answer] = float(sample["exact_match"])
    print(f"right answer {answer}, given {pairs[answer]}: exact_match {scores[answer]}")
assert scores == {"-5": 1, "3.14": 1, "1/2": 1, "5": 1, "7": 0}, "changed"
PYTHON
