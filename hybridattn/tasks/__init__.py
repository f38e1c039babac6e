"""Models that answer one question about a sequence: its class, its values, or where in it a span is.

    teacher = add_head(Model.from_pretrained("smollm2-135m"), "classify", num_labels=2)
    examples = Examples.of(sequences, labels)
    finetune(teacher, examples, epochs=3, batch_size=16)
    probe = align(teacher, {"kind": "window_linear"}, examples.data, steps=100, batch_size=16)
    hybrid = probe.to_hybrid(plan.make(score(probe, examples.data, "kl_gate"), k=8))
    distill(hybrid, teacher, examples.data, steps=100, batch_size=16)
    predict(hybrid, other_sequences)

`align`, `score`, `plan` and `distill` are those of every model: they keep the head, and compare the logits of
the task.
"""

from ..lazy import contents
from .examples import Examples
from .head import add_head
from .predict import predict
from .train import finetune

__all__ = ["Examples", "add_head", "finetune", "predict"]
__dir__ = contents(__name__)
