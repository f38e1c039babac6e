"""lm-eval's own command with our model: by the task file that makes it known, and by ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from test_lm_eval_model import TASKS

from hybridattn.evaluate.lm_eval_command import PLUGIN


@pytest.mark.lm_eval
@pytest.mark.parametrize("command", ["lm_eval", "hybridattn.evaluate.lm_eval_command"])
def test_the_command_of_lm_eval(tmp_path, command):
    """Its own command line, by the task file that registers our model, and ours: with a chat template, shots
    as turns, a device and a batch size of its own kind; the prompts are those of the template.
    """
    pytest.importorskip("lm_eval")
    docs = [{"q": q, "a": i % 2} for i, q in enumerate(["the cat", "a fire truck"])]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    data = {"data_files": {split: str(tmp_path / "docs.jsonl") for split in ("test", "train")}}
    config = {"task": "local_choice", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
    config |= {"fewshot_split": "train", **TASKS["choice"]}
    (tmp_path / "choice.yaml").write_text(json.dumps(config))
    model = tiny.teacher()
    model.tokenizer.chat_template = (
        "{{ mood }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    model.save_pretrained(tmp_path / "model")
    tasks = ["local_choice"] if command != "lm_eval" else [str(PLUGIN), "local_choice"]
    done = subprocess.run(
        [sys.executable, "-m", command, "run", "--model", "hybridattn", "--model_args",
         json.dumps({"pretrained": str(tmp_path / "model"), "chat_template_args": {"mood": "Kind."}}),
         "--tasks", *tasks, "--include_path", str(tmp_path), "--device", "mps", "--batch_size", "auto:4",
         "--max_batch_size", "3", "--apply_chat_template", "--num_fewshot", "1", "--fewshot_as_multiturn",
         "true", "--system_instruction", "Be short.", "--log_samples", "--output_path", str(tmp_path / "out"),
         "--trust_remote_code"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "local_choice" in done.stdout and "acc" in done.stdout
    (samples,) = (tmp_path / "out").rglob("samples_local_choice_*.jsonl")
    first = json.loads(samples.read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
    assert first.startswith("Kind.[system]Be short.[user]Is ") and first.endswith("[user]Is the cat red?")
    assert first.count("[user]") == 2 and first.count("[assistant]") == 1


@pytest.mark.lm_eval
def test_lm_eval_finds_no_models_of_others(tmp_path):
    """Why the task file is there: when lm-eval reads entry points, this fails and it can go."""
    pytest.importorskip("lm_eval")
    from lm_eval.api import registry

    text = Path(registry.__file__).read_text(encoding="utf-8")
    assert "entry_points(" not in text
    done = subprocess.run(
        [sys.executable, "-m", "hybridattn.evaluate.lm_eval_command", "--plugin"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(PLUGIN) and PLUGIN.is_file()
