"""Loss on the answers, from the command line and from recipes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from test_chat_turns import tokenizer

import hybridattn as ha
from hybridattn import pipeline
from hybridattn.cli.main import main
from hybridattn.data.split import Texts, aligned_tokens, note_aligned
from hybridattn.errors import DataError
from hybridattn.pipeline import work
from hybridattn.pipeline.job import Job
from hybridattn.pipeline.recipe import Recipe
from hybridattn.radlads.settings import Settings, StageSettings
from hybridattn.radlads.steps import make_distiller

pytestmark = pytest.mark.usefixtures("one_thread")
MARKS = "headers and trims"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A teacher with a chat template, conversations with empty ones among them, a text."""
    folder = tmp_path_factory.mktemp("answers")
    made = tokenizer(MARKS)
    teacher = tiny.teacher(vocab_size=400, eos_token_id=made.eos_token_id, layers=2)
    teacher.tokenizer = made
    teacher.save_pretrained(folder / "teacher")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {i}?"},
                {"role": "assistant", "content": f"It is {i}."},
            ]
        }
        for i in range(60)
    ]
    rows[3:3] = [{"messages": []}]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plain.txt").write_text(tiny.TEXT)
    return folder


def said(data, made):
    return made.decode(data.tokens[data.weights > 0].tolist())


def test_parts_of_conversations(inputs):
    made, texts = tokenizer(MARKS), Texts(inputs / "talk.jsonl", answers_only=True)
    parts = {name: texts.read(name, made, 10_000, 32) for name in ("scoring", "held-out", "training")}
    first = {name: said(part, made).split(".")[0].strip() for name, part in parts.items()}
    assert first == {"scoring": "It is 0", "held-out": "It is 2", "training": "It is 6"}
    for part in parts.values():
        assert "What" not in said(part, made)
        assert all(part.weights[start + 1 : stop].any() for start, stop in part.windows)
    whole = texts.training(made, 256, 32)
    later = texts.training(made, 256, 32, skip=64)
    assert later.tokens[:100].tolist() == whole.tokens[64:164].tolist()
    assert later.weights[:100].tolist() == whole.weights[64:164].tolist()
    with pytest.raises(DataError, match=r"plain\.txt: row 0: holds no messages; allowed with answers_only"):
        Texts(inputs / "plain.txt", inputs / "plain.txt", True).read("held-out", made, 64, 32)
    with pytest.raises(DataError, match="has 1 conversations, too few"):
        Texts(inputs / "plain.txt", answers_only=True).training(made, 64, 32)


def test_a_probe_says_how_its_text_was_read(inputs, tmp_path):
    answers, plain = Texts(inputs / "talk.jsonl", answers_only=True), Texts(inputs / "talk.jsonl")
    note_aligned(tmp_path, answers, 512)
    assert aligned_tokens(tmp_path, answers) == 512 and aligned_tokens(tmp_path, plain) == 0
    note_aligned(tmp_path, plain, 512)
    assert aligned_tokens(tmp_path, answers) == 0 and aligned_tokens(tmp_path, plain) == 512


def test_the_command_line(inputs, tmp_path, monkeypatch):
    seen = {}
    for name in ("distill", "finetune"):
        step = getattr(ha.radlads, name)

        def watch(*given, _step=step, _name=name, **options):
            seen[_name] = given[1 if _name == "finetune" else 2]
            return _step(*given, **options)

        monkeypatch.setattr(ha.radlads, name, watch)
    text = [
        "--text",
        str(inputs / "talk.jsonl"),
        "--answers-only",
        "--seq-len",
        "32",
        "--tokens",
        "128",
        "--quiet",
    ]
    train = [*text, "--batch-size", "2", "--json"]
    probe, plan = str(tmp_path / "probe"), str(tmp_path / "plan.json")
    ha.plan.uniform(2, 1).save(plan)
    assert not main(["align", str(inputs / "teacher"), "--mixer", "gla", "--out", probe, *train])
    assert not main(["score", probe, "--out", str(tmp_path / "s.json"), *text])
    out = ["--out", str(tmp_path / "hybrid"), "--finetune-tokens", "64"]
    assert not main(["distill", probe, "--plan", plan, *out, *train])
    made = tokenizer(MARKS)
    for data in seen.values():
        assert data.weights is not None and "What" not in said(data, made) and "It is" in said(data, made)
    assert np.isfinite(ha.LayerScores.load(tmp_path / "s.json").values).all()


def test_a_recipe(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("hybridattn.report.plots.available", lambda: False)
    recipe = {
        "teacher": {"model": str(inputs / "teacher")},
        "text": {"train": str(inputs / "talk.jsonl"), "answers_only": True},
        "mixer": {"kind": "gla"},
        "align": {"tokens": 128, "seq_len": 32, "batch_size": 2},
        "score": {"methods": ["kl_replace"], "text": "plain", "tokens": 32, "seq_len": 16},
        "plan": {"softmax_layers": 1, "random_seeds": 0},
        "distill": {
            "tokens": 128,
            "seq_len": 32,
            "batch_size": 2,
            "finetune_tokens": 64,
            "models": ["chosen"],
        },
        "evaluate": {"tokens": 64, "lengths": [32]},
        "measure": {"lengths": [16], "decode_tokens": 1, "repeats": 1},
        "samples": {"prompt": "It", "tokens": 2},
    }
    paths = pipeline.run(Recipe.from_dict(recipe), tmp_path / "out", lambda line: None, progress=False)
    results = json.loads(paths["json"].read_text())
    assert "answers_only = true" in (tmp_path / "out" / "recipe.toml").read_text()
    assert "what assistants say is all that counts" in paths["md"].read_text()
    assert results["models"][-1]["after"]["32"]["kl"] > 0 and results["answers_only"]
    plain = {**recipe, "text": {"train": str(inputs / "talk.jsonl")}}
    digests = [
        work.fetch(Job(Recipe.from_dict(each), tmp_path / "out", print))["digests"]
        for each in (recipe, plain)
    ]
    assert digests[0]["teacher"] == digests[1]["teacher"] and digests[0]["text"] != digests[1]["text"]


def test_divergence_of_the_answers():
    made = tokenizer(MARKS)
    teacher = tiny.teacher(vocab_size=400, eos_token_id=made.eos_token_id, layers=2)
    hybrid = teacher.to_probe({"kind": "gla"}).to_hybrid([0])
    talk = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "the moon"}]
    data = ha.TokenData.from_rows([{"messages": talk}] * 5, made, 24, answers_only=True)
    found = ha.evaluate.kl(hybrid, teacher, data, weighted=True)
    nll = hybrid.nll(np.stack([data.tokens[start:stop] for start, stop in data.windows])).astype(np.float64)
    counts = np.stack([data.weights[start + 1 : stop] for start, stop in data.windows])
    assert found.perplexity == pytest.approx(np.exp((nll * counts).sum() / counts.sum()), rel=1e-5)
    assert found.tokens == counts.sum() and found.kl != ha.evaluate.kl(hybrid, teacher, data).kl
    logp = [log_softmax(m.logits(data.tokens[None, :24])[0, :-1]) for m in (teacher, hybrid)]
    rows = (np.exp(logp[0]) * (logp[0] - logp[1])).sum(1)
    assert found.per_sequence[0] == pytest.approx((rows * counts[0]).sum() / counts[0].sum(), rel=1e-3)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_step_3_counts_the_answers():
    """Losses are the weighted mean of the model's own nll; gradients follow the loss."""
    made = tokenizer(MARKS)
    teacher = tiny.teacher(vocab_size=400, eos_token_id=made.eos_token_id, layers=1)
    talk = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "the moon"}]
    data = ha.TokenData.from_rows([{"messages": talk}] * 6, made, 24, answers_only=True)
    nll = teacher.nll(np.stack([data.tokens[start:stop] for start, stop in data.windows])).astype(np.float64)
    counts = np.stack([data.weights[start + 1 : stop] for start, stop in data.windows])
    rates = {"lr_mixers": 0.0, "lr_rest": 0.0, "progress": False}
    found = ha.radlads.finetune(teacher, data, 1, len(data), **rates).losses
    assert found[0] == pytest.approx((nll * counts).sum() / counts.sum(), rel=1e-5)
    alike = ha.TokenData(data.tokens, data.windows, weights=np.ones(len(data.tokens)))
    bare = ha.TokenData(data.tokens, data.windows)
    losses = [ha.radlads.finetune(teacher, each, 1, len(data), **rates).losses for each in (alike, bare)]
    assert losses[0] == losses[1] == pytest.approx(nll.mean(), rel=1e-5)

    settings = StageSettings("finetune", 1, len(data), {}, Settings())
    trainer = make_distiller(teacher, None, settings)
    arena = trainer.arena("weights").numpy()
    grads, spare = np.zeros_like(arena), np.zeros_like(arena)
    rng = np.random.default_rng(0)
    uneven = (data.weights * rng.uniform(0.5, 2.0, len(data.tokens))).astype(np.float32)
    given = (data.tokens, data.windows[None], 0, len(data))
    trainer.gradients(*given, grads, weights=uneven)
    way, start = rng.standard_normal(arena.size).astype(np.float32) * 1e-3, arena.copy()
    ends = []
    for sign in (1, -1):
        arena[:] = start + sign * way
        ends.append(trainer.gradients(*given, spare, weights=uneven))
    arena[:] = start
    slope = float(grads.astype(np.float64) @ way.astype(np.float64))
    assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=0.02, abs=1e-5) and abs(slope) > 1e-4
    with pytest.raises(ValueError, match="weights are for stages distill and finetune"):
        probe = teacher.to_probe({"kind": "gla"})
        align = make_distiller(probe, None, StageSettings("align", 1, 2, {}, Settings()))
        align.run(data.tokens, data.windows[None], np.zeros((1, 2), np.float32), 0, 1, weights=uneven)
