#!/bin/sh
# Expected: word_perplexity divides by the number of words of a text.
# Happens: a space or newline at the start or end counts as a word more, and a blank text has two:
# five short texts with 11 words count as 15, and the perplexity is 28 in place of 94.
# Matters: texts cut into lines or cells end in newlines; figures of two papers differ by how the
# data was split, not by the model.
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

texts = ["a b c", "a b c\n", " a b c", "a\n\nb", " "]
with open("texts.jsonl", "w") as file:
    file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
task = {"task": "words", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "texts.jsonl"}},
        "output_type": "loglikelihood_rolling", "test_split": "test", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}]}


class Constant(LM):
    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        return [-10.0 for _ in requests]

    def generate_until(self, requests):
        raise NotImplementedError


result = lm_eval.simple_evaluate(Constant(), tasks=[task], task_manager=TaskManager(include_defaults=False),
                                 bootstrap_iters=0)
perplexity = result["results"]["words"]["word_perplexity,none"]
by_words = 2.718281828459045 ** (10 * len(texts) / sum(len(text.split()) for text in texts))
print("lm_eval", lm_eval.__version__)
print(f"{texts}: word_perplexity {perplexity:.2f}, by the words of str.split {by_words:.2f}")
assert abs(perplexity - 28.03) < 0.01 and abs(by_words - 94.2) < 0.1, "changed"
PYTHON
