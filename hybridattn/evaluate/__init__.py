"""How good a model is: perplexity, KL from a teacher, recall; `glue`, `squad`, `latency` beside them."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["kl", "perplexity", "recall"]

if TYPE_CHECKING:
    from .text import kl as kl
    from .text import perplexity as perplexity
    from .text import recall as recall
else:
    __getattr__ = face(__name__, {"kl": "text", "perplexity": "text", "recall": "text"})

__dir__ = contents(__name__)
