"""Layer scores: what does the model lose if this layer is linear? High means: keep it softmax.

T is the teacher (every layer of the probe softmax), H(A) the hybrid in which the layers in A stay softmax and
the others use the probe's linear mixers, and L(A) the mean KL(T || H(A)) in nats per token over the scoring
text.

    scores.py       LayerScores: values, order, cost, JSON
    scoring.py      what selectors share: passes over the text, the teacher's states, the count of the cost
    kl.py           kl_replace, kl_restore, kl_gate
    greedy.py       kl_greedy_add, kl_greedy_remove, swaps
    joint.py        kl_joint
    distilled.py    kl_restore_distilled and its folder of results (candidates.py)
    baselines.py    uniform, random, first_last, mse, perplexity, smart
    diagnostic.py   diagnostic:<task>
    registry.py     the names, and `score`; cost.py: what a method will take
"""

from ..errors import Unfinished
from ..lazy import contents
from ..model.base import linear_mixer
from .cost import expected_forwards
from .rankings import jaccard, spearman, topk_stability
from .registry import SELECTORS, reads_text, register_selector, score, selectors, takes
from .scores import FORMAT, LayerScores
from .scoring import Result, Scoring

__all__ = [
    "FORMAT",
    "SELECTORS",
    "LayerScores",
    "Result",
    "Scoring",
    "Unfinished",
    "expected_forwards",
    "jaccard",
    "linear_mixer",
    "reads_text",
    "register_selector",
    "score",
    "selectors",
    "spearman",
    "takes",
    "topk_stability",
]
__dir__ = contents(__name__)
