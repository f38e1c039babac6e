"""Models as other programs read them: layouts, one file each, behind one registry.

    for name, misfits in export.fits(hybrid).items():  # which layouts hold this model, why others do not
        print(name, *misfits)
    export.export(hybrid, "out", layout="qwen3_5", dtype="bfloat16")

A layout module defines `LAYOUT`, a `registry.Layout`: what it cannot hold, layer by layer, and how it writes
a folder. `registry` names the modules; `folder` makes sure that a folder is whole or not there.
"""

from ..lazy import contents
from .registry import Export, Layout, Misfit, Options, export, fits, layout_of, layouts

__all__ = ["Export", "Layout", "Misfit", "Options", "export", "fits", "layout_of", "layouts"]
__dir__ = contents(__name__)
