"""GLUE from the `datasets` package, for those who have it and a way to its hub or cache."""

from __future__ import annotations

from ...checks import check_choice
from ...errors import HybridAttnError
from .tasks import Example, Split, task_named

# our task -> (configuration, columns of the texts, the split that "validation" and "test" name)
_CONFIGURATIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "CoLA": ("cola", ("sentence",), ""),
    "SST-2": ("sst2", ("sentence",), ""),
    "MRPC": ("mrpc", ("sentence1", "sentence2"), ""),
    "STS-B": ("stsb", ("sentence1", "sentence2"), ""),
    "QQP": ("qqp", ("question1", "question2"), ""),
    "MNLI": ("mnli", ("premise", "hypothesis"), "_matched"),
    "MNLI-mm": ("mnli", ("premise", "hypothesis"), "_mismatched"),
    "QNLI": ("qnli", ("question", "sentence"), ""),
    "RTE": ("rte", ("sentence1", "sentence2"), ""),
    "WNLI": ("wnli", ("sentence1", "sentence2"), ""),
}


def from_datasets(name: str, split: str = "validation", path: str = "nyu-mll/glue") -> Split:
    """A split ("train", "validation", "test") of a GLUE task, from `datasets.load_dataset(path, ...)`.

    path: a hub id, or a local folder of that layout. Label indices are the same as in GLUE's files. Raises
    HybridAttnError when `datasets` is not installed or cannot load it.
    """
    task = task_named(name)
    check_choice("split", split, task.files)
    try:
        import datasets
    except ImportError:
        raise HybridAttnError("reading GLUE from a hub needs datasets: pip install datasets") from None
    configuration, columns, suffix = _CONFIGURATIONS[task.name]
    wanted = split if split == "train" else split + suffix
    try:
        rows = datasets.load_dataset(path, configuration, split=wanted)
    except Exception as error:  # network and file errors of several libraries
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HybridAttnError(f"cannot load {path} {configuration} {wanted}: {reason}") from None
    examples = []
    for i, row in enumerate(rows):
        texts = [row[column] for column in columns]
        label = None if split == "test" else row["label"]  # the hub writes -1 for secret labels
        examples.append(Example(str(row.get("idx", i)), texts[0], texts[1] if texts[1:] else None, label))
    return Split(task, split, examples)
