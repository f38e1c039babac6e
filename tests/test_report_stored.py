"""A stored report opens again and writes the same files, or is refused with what wrote it."""

from __future__ import annotations

import json
import re

import pytest
import report_example

from hybridattn import report
from hybridattn.errors import DataError


@pytest.fixture
def stored(tmp_path):
    return report.write(report_example.results(), tmp_path / "a")["json"]


def test_written_again(stored, tmp_path):
    results = report.load(stored)
    again = report.write(results, tmp_path / "b")
    for kind, path in again.items():
        # matplotlib names clip paths by the last bits of its layout
        first, second = (
            re.sub(r"-p[0-9a-f]{10}\b", "", file.read_text(encoding="utf-8"))
            for file in (tmp_path / "a" / f"report.{kind}", path)
        )
        assert first == second, kind


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            ("format",),
            r"report\.json, of version 0.0.9: no report: format is None; allowed: 'hybridattn-report-1'; "
            "open it with that version, or run the recipe again with this one",
        ),
        (("scores", 0, "sequences"), r"of version 0.0.9: scores\[0\] has no sequences; run the recipe again"),
        (("models", 1, "cache"), r"of version 0.0.9: models\[1\] has no cache"),
        (("chosen", "text"), "of version 0.0.9: chosen has no text"),
        (("curves",), "of version 0.0.9: curves is"),
        (("made", "stages"), "made has no stages"),
        (("made",), "of version unknown: made is"),
    ],
)
def test_what_lacks_something_is_refused_with_its_version(stored, where, message):
    content = json.loads(stored.read_text())
    content["made"]["versions"]["hybridattn"] = "0.0.9"
    place = content
    for key in where[:-1]:
        place = place[key]
    del place[where[-1]]
    stored.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        report.load(stored)


@pytest.mark.parametrize("text", ["{", "[]", "3", "", '{"format": "hybridattn-report-0"}'])
def test_what_is_no_report(stored, text):
    stored.write_text(text)
    with pytest.raises(DataError, match=r"report\.json"):
        report.load(stored)
