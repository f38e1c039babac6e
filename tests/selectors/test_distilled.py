"""Candidates that are distilled first: halving, shards, and going on."""

import itertools
import json

import numpy as np
import pytest
from scored import LAYERS, K, score

from hybridattn import evaluate, radlads, select
from hybridattn.errors import ConfigError, DataError
from hybridattn.select import candidates, distilled
from hybridattn.select.scoring import Scoring

STEPS = (1, 2, 4)


def test_distilled_candidates_are_distilled_hybrids(probe, data, train):
    scores = score(probe, data, "kl_restore_distilled", k=K, train=train, steps=(2,), lr_mixers=1e-2)
    with Scoring(probe, data, "x", progress=False).teacher() as teacher:
        for layer in (0, 3):
            found = []
            for kept in ([], [layer]):
                hybrid = probe.to_hybrid(kept)
                radlads.distill(hybrid, teacher, train, 2, 1, lr_mixers=1e-2, progress=False)
                found.append(np.array(evaluate.kl(hybrid, teacher, data).per_sequence))
            assert scores.per_sequence[layer] == pytest.approx(found[0] - found[1], rel=1e-2, abs=1e-4)


def test_halving_drops_and_settles(probe, data, train):
    scores = score(probe, data, "kl_restore_distilled", k=K, train=train, steps=STEPS)
    rungs = scores.options["rungs"]
    assert rungs[0]["candidates"] == LAYERS
    assert all(b["candidates"] <= K + (a["candidates"] - K + 1) // 2 for a, b in itertools.pairwise(rungs))
    assert rungs[-1]["top"] == scores.top(K)
    assert scores.options["settled"] == (len(rungs) > 1 and rungs[-1]["top"] == rungs[-2]["top"])
    assert scores.cost["forwards"] > 1


def test_survivors():
    rows = np.array([[5.0, 5.2, 4.8], [4.0, 4.1, 3.9], [3.9, 4.2, 3.9], [1.0, 1.1, 1.2], [0.9, 0.0, 0.0]])
    # of the three beyond k at most two go on; layer 2 is not clearly below layer 1, layer 3 is
    assert distilled.survivors(rows, [0, 1, 2, 3, 4], 2) == [0, 1, 2]
    assert distilled.survivors(rows[:, :1], [0, 1, 2, 3, 4], 2) == [0, 1, 2, 3]  # one sequence: no telling


def test_finished_candidates_are_not_done_again(probe, data, train, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    options = {"k": K, "train": train, "steps": STEPS, "folder": folder}
    first = score(probe, data, "kl_restore_distilled", **options)
    files = sorted(folder.rglob("steps-*/*.json"))
    assert len(files) == sum(r["candidates"] + 1 for r in first.options["rungs"])
    files[0].unlink()
    done = []
    distill = radlads.distill
    monkeypatch.setattr(radlads, "distill", lambda *a, **k: done.append(a[3]) or distill(*a, **k))
    again = score(probe, data, "kl_restore_distilled", **options)
    assert len(done) == 1
    assert again.per_sequence.tobytes() == first.per_sequence.tobytes()
    assert again.options == first.options and again.cost == first.cost
    with pytest.raises(DataError, match=r"\.json: of another probe, text or settings"):
        score(probe, data, "kl_restore_distilled", **{**options, "batch_size": 2})
    files[1].write_text("{")
    with pytest.raises(DataError, match=r"layer-001\.json: not "):
        score(probe, data, "kl_restore_distilled", **options)


def test_shards_and_their_merge(probe, data, train, tmp_path):
    options = {"k": K, "train": train, "steps": STEPS}
    alone = score(probe, data, "kl_restore_distilled", **options)
    options["folder"] = tmp_path
    turns, waiting = 0, 1
    while waiting and turns < 10:
        turns += 1
        waiting = 0
        for index in (0, 1):
            try:
                both = score(probe, data, "kl_restore_distilled", shard=(index, 2), **options)
            except select.Unfinished as error:
                waiting += 1
                assert f"shard {index}/2 is done with" in str(error)
    assert 1 < turns < 10
    merged = score(probe, data, "kl_restore_distilled", **options)
    for one in (both, merged):
        assert one.per_sequence.tobytes() == alone.per_sequence.tobytes()
        assert one.options["order"] == alone.options["order"]


def test_bad_distilled_requests(probe, data, train, tmp_path):
    with pytest.raises(DataError, match="train is None"):
        score(probe, data, "kl_restore_distilled")
    with pytest.raises(ConfigError, match=r"steps is \[2, 1\]"):
        score(probe, data, "kl_restore_distilled", train=train, steps=(2, 1))
    with pytest.raises(ConfigError, match=r"shard is '2/2'"):
        score(probe, data, "kl_restore_distilled", train=train, shard=(2, 2), folder=tmp_path)
    with pytest.raises(ConfigError, match="without a folder"):
        score(probe, data, "kl_restore_distilled", train=train, shard=(0, 2))


def test_candidate_files_are_plain_json(tmp_path):
    kept = candidates.Candidates(tmp_path, "facts")
    kept.put(3, 8, np.array([0.1, 0.2]), 1.5, 10.0)
    content = json.loads((tmp_path / "steps-000008" / "layer-003.json").read_text())
    assert content["per_sequence"] == [0.1, 0.2] and content["layer"] == 3
    assert candidates.Candidates(tmp_path, "facts").get(3, 8)["per_sequence"].tolist() == [0.1, 0.2]
    assert candidates.Candidates(tmp_path, "facts").get(3, 9) is None
