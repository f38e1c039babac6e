#!/bin/sh
# Expected: a model whose log-likelihoods are all NaN gets NaN, or an error, for its accuracy.
# Happens: numpy's argmax of NaN is 0, so lm-eval counts the first answer as chosen: the accuracy is
# the share of questions whose first answer is right, 60% where the set is that uneven.
# Matters: an overflow in float16 or a broken export gives a believable score near chance, with its
# standard error.
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

answers = [0, 0, 0, 1, 2, 0, 0, 1, 2, 0]
with open("questions.jsonl", "w") as file:
    file.writelines(json.dumps({"choices": ["x", "y", "z"], "answer": answer}) + "\n" for answer in answers)
task = {"task": "broken", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "questions.jsonl"}},
        "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "Question:", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}


class Broken(LM):
    def loglikelihood(self, requests):
        return [(float("nan"), False) for _ in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


result = lm_eval.simple_evaluate(Broken(), tasks=[task], task_manager=TaskManager(include_defaults=False))
scores = result["results"]["broken"]
print("lm_eval", lm_eval.__version__)
print({key: scores[key] for key in ("acc,none", "acc_stderr,none", "acc_norm,none")})
assert scores["acc,none"] == scores["acc_norm,none"] == 0.6 and scores["acc_stderr,none"] > 0, "changed"
PYTHON
