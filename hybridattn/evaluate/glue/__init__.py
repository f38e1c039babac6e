"""GLUE (Wang et al. 2018, arXiv 1804.07461): its nine tasks as examples, its metrics and its average; and
GLUE-style tasks that install from the Python package index.

    split = glue.read("MRPC", "glue_data", "validation")         # GLUE's own TSV files
    split = glue.builtin("boolq")                                # GLUE-style, no hub needed
    found = choices.classify(model, split, glue.PROMPTS["boolq"])
    scores = glue.evaluate(split.task, found.predictions, split.labels)
    glue.write_predictions("out", split, found.predictions, scores)
"""

from ...lazy import contents
from .builtin import BUILTIN, builtin
from .metrics import average, check_metrics, evaluate, task_score
from .predictions import write_predictions
from .prompts import PROMPTS
from .tasks import TASKS, Example, Split, Task, task_named
from .tsv import read
from .with_datasets import from_datasets

__all__ = [
    "BUILTIN",
    "PROMPTS",
    "TASKS",
    "Example",
    "Split",
    "Task",
    "average",
    "builtin",
    "check_metrics",
    "evaluate",
    "from_datasets",
    "read",
    "task_named",
    "task_score",
    "write_predictions",
]
__dir__ = contents(__name__)
