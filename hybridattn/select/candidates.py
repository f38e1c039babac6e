"""Finished candidates on disk: one JSON file each, written whole or not at all, so that a search can stop
and go on, and several processes can share it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import atomic_write, sheet_checksum
from ..reading import field as field_of
from ..reading import read_json
from .scores import numbers

FORMAT = "hybridattn-candidate-2"


class Candidates:
    """Results by (layer, steps) in `folder` (None: in memory only). `facts`: a digest of all they depend
    on.
    """

    def __init__(self, folder: Path | None, facts: str) -> None:
        self.folder = folder
        self.facts = facts
        self.seen: dict[tuple[int, int], dict[str, Any]] = {}

    def path(self, layer: int, steps: int) -> Path:
        """Layer -1 is the model without a softmax layer."""
        assert self.folder is not None
        name = "none" if layer < 0 else f"layer-{layer:03d}"
        return self.folder / f"steps-{steps:06d}" / f"{name}.json"

    def get(self, layer: int, steps: int) -> dict[str, Any] | None:
        """The result, from this run or another; DataError when the file is of other weights, text or
        settings.
        """
        key = (layer, steps)
        if key not in self.seen and self.folder is not None and self.path(layer, steps).is_file():
            path = self.path(layer, steps)
            where = f"{path}: not a candidate's result"
            content = read_json(path, DataError)
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise DataError(f"{where}: allowed: an object of format {FORMAT!r}")
            if content.get("checksum") != sheet_checksum(content):
                raise DataError(f"{where}: it was changed or damaged since; delete it to have it made again")
            for name in ("seconds", "layer_passes"):
                field_of(content, name, (int, float), where, DataError)
            content["per_sequence"] = numbers(content.get("per_sequence"), f"{where}: per_sequence").reshape(
                -1
            )
            if (content.get("layer"), content.get("steps")) != key:
                raise DataError(
                    f"{where}: it is of layer {content.get('layer')} after {content.get('steps')} steps"
                )
            if content.get("facts") != self.facts:
                raise DataError(f"{path}: of another probe, text or settings; give another folder")
            self.seen[key] = content
        return self.seen.get(key)

    def put(
        self,
        layer: int,
        steps: int,
        per_sequence: npt.NDArray[np.float64],
        seconds: float,
        layer_passes: float,
    ) -> None:
        """Keep a result."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "facts": self.facts,
            "layer": layer,
            "steps": steps,
            "seconds": seconds,
            "layer_passes": layer_passes,
            "per_sequence": per_sequence,
        }
        self.seen[layer, steps] = content
        if self.folder is not None:
            path = self.path(layer, steps)
            path.parent.mkdir(parents=True, exist_ok=True)
            written = {**content, "per_sequence": per_sequence.tolist()}
            atomic_write(path, json.dumps({**written, "checksum": sheet_checksum(written)}) + "\n")
