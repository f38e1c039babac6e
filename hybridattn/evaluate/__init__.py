"""How good a model is: perplexity, KL from a teacher, recall; `glue`, `squad`, `latency` beside them."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["final_hidden", "kl", "perplexity", "recall"]

if TYPE_CHECKING:
    from ..radlads.teacher import final_hidden as final_hidden
    from .text import kl as kl
    from .text import perplexity as perplexity
    from .text import recall as recall
else:
    __getattr__ = face(
        __name__,
        {"final_hidden": ".radlads.teacher", "kl": "text", "perplexity": "text", "recall": "text"},
    )

__dir__ = contents(__name__)
