"""RADLADS (arXiv 2505.03005): step 1 aligns linear mixers, step 2 distils the teacher's logits, step 3
fine-tunes.

Step 0, the transfer of the softmax weights, is `Model.to_probe`, which `align` calls.
"""

from typing import TYPE_CHECKING

from ..lazy import contents, face
from ..model.result import TrainResult

__all__ = [
    "Interrupted",
    "Settings",
    "TrainResult",
    "align",
    "align_lr",
    "distill",
    "finetune",
    "interrupted",
]

if TYPE_CHECKING:
    from .schedules import align_lr as align_lr
    from .settings import Settings as Settings
    from .steps import align as align
    from .steps import distill as distill
    from .steps import finetune as finetune
    from .stopped import Interrupted as Interrupted
    from .stopped import interrupted as interrupted
else:
    __getattr__ = face(
        __name__,
        {
            "Interrupted": "stopped",
            "Settings": "settings",
            "TrainResult": "..model.result",
            "align": "steps",
            "align_lr": "schedules",
            "distill": "steps",
            "finetune": "steps",
            "interrupted": "stopped",
        },
    )

__dir__ = contents(__name__)
