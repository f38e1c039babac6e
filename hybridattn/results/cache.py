"""How a Cache looks in a notebook."""

from __future__ import annotations

from .._core import Cache
from .markup import box, runs, table

_SHOWN = 8  # sequences


def html(cache: Cache) -> str:
    """The tokens of its sequences, and the bytes by layer and kind, a row for each run of alike layers."""
    layers = cache.layer_bytes()
    rows = [
        [name, " + ".join(layers[at]) or "–", f"{sum(layers[at].values()):,}"] for name, at in runs(layers)
    ]
    lengths = cache.lengths.tolist()
    seen = ", ".join(f"{n:,}" for n in lengths[:_SHOWN]) + (", .." if len(lengths) > _SHOWN else "")
    facts = [
        ["sequences", f"{len(lengths):,}"],
        ["tokens of each", seen],
        ["keys and values", cache.dtype],
        ["bytes, room for growth included", f"{cache.nbytes:,}"],
        ["bytes that one more token adds", f"{cache.bytes_per_token:,}"],
    ]
    return box("Cache", table(facts), table(rows, ["layer", "mixer", "bytes a layer"]))
