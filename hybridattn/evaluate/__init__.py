"""How good a model is: perplexity, KL from a teacher, recall; `glue`, `squad`, `latency` beside them."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = [
    "Agreement",
    "Bench",
    "Branches",
    "Classified",
    "Comparison",
    "Divergence",
    "GlueScores",
    "Latency",
    "LayerCosts",
    "Perplexity",
    "Recall",
    "SquadScores",
    "agreement",
    "bench",
    "branches",
    "compare",
    "final_hidden",
    "kl",
    "perplexity",
    "recall",
]

if TYPE_CHECKING:
    from ..radlads.teacher import final_hidden as final_hidden
    from .choices import Classified as Classified
    from .latency import Latency as Latency
    from .latency import LayerCosts as LayerCosts
    from .linear_branch import Branches as Branches
    from .linear_branch import branches as branches
    from .results import Agreement as Agreement
    from .results import Comparison as Comparison
    from .results import Divergence as Divergence
    from .results import Perplexity as Perplexity
    from .results import Recall as Recall
    from .side_by_side import agreement as agreement
    from .side_by_side import compare as compare
    from .task_results import GlueScores as GlueScores
    from .task_results import SquadScores as SquadScores
    from .text import kl as kl
    from .text import perplexity as perplexity
    from .text import recall as recall
    from .timing import Bench as Bench
    from .timing import bench as bench
else:
    __getattr__ = face(
        __name__,
        {
            "final_hidden": ".radlads.teacher",
            "Classified": "choices",
            **dict.fromkeys(("Bench", "bench"), "timing"),
            **dict.fromkeys(("Branches", "branches"), "linear_branch"),
            **dict.fromkeys(("GlueScores", "SquadScores"), "task_results"),
            **dict.fromkeys(("Latency", "LayerCosts"), "latency"),
            **dict.fromkeys(("agreement", "compare"), "side_by_side"),
            **dict.fromkeys(("Agreement", "Comparison", "Divergence", "Perplexity", "Recall"), "results"),
            **dict.fromkeys(("kl", "perplexity", "recall"), "text"),
        },
    )

__dir__ = contents(__name__)
