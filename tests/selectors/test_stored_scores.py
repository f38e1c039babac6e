"""Files of layer scores say which version wrote them; others open, or are refused by theirs."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hybridattn as ha
from hybridattn.errors import DataError

# as the first version with such files wrote them: without version, cost, measure, tokens, layers and total
FIRST = {
    "format": "hybridattn-scores-1", "method": "kl_replace",
    "per_sequence": [[0.25, 0.5], [0.125, 0.25], [1.0, 2.0]],
    "base_kl": 0.0, "all_linear_kl": None, "seconds": 1.5, "text": "recall",
    "mixer": {"kind": "gated_delta"}, "options": {},
    "values": [0.375, 0.1875, 1.5], "stderr": [0.125, 0.0625, 0.5],
}  # fmt: skip


def test_the_first_files_open(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(FIRST))
    scores = ha.LayerScores.load(tmp_path / "s.json")
    assert scores.values.tolist() == FIRST["values"] and np.isnan(scores.all_linear_kl)
    assert ha.plan.make(scores, k=1).softmax_layers == (2,)
    scores.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["version"] == ha.__version__
    assert ha.LayerScores.load(tmp_path / "again.json") == scores


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": "hybridattn-scores-2", "version": "3.1.0"},
            r"s\.json: not a file of layer scores, written by version 3\.1\.0: format is "
            "'hybridattn-scores-2'; allowed: 'hybridattn-scores-1'; open it with that "
            "version, or score again with this one",
        ),
        ({"format": "hybridattn-scores-2"}, "scores: format is 'hybridattn-scores-2'; allowed: '.*-1'$"),
        ({"version": "0.0.9", "method": None}, "written by version 0.0.9: method is"),
        ({"version": 3, "method": None}, "scores: method is"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_version(tmp_path, changes, message):
    (tmp_path / "s.json").write_text(json.dumps({**FIRST, **changes}))
    with pytest.raises(DataError, match=message):
        ha.LayerScores.load(tmp_path / "s.json")
