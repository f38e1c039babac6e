"""transformers fine-tuned as `table_encoder.py` fine-tunes its teacher: the same sentences, batches of the
same size, rates and epochs. For the environment that has torch:

    python benchmarks/peer_finetune.py --sst2 FILE.tsv [--out FOLDER of table_encoder.py]

With the table's folder also the difference of the two models' accuracies, in pairs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BertForSequenceClassification

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]


def batch_of(sequences):
    """ids and mask [n, longest], padded behind."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
    return ids, mask


def main():
    import table_encoder
    from encoder_tasks import Sentences

    from hybridattn import Model, files, glue, hub

    args = table_encoder.arguments()
    torch.manual_seed(0)
    task = Sentences.sst2(args.sst2, args.train, args.held)
    glue.check_metrics(task.task)  # what is missing is said before the training
    tokenizer = Model.from_pretrained("minilm-l6").tokenizer
    model = BertForSequenceClassification.from_pretrained(hub.resolve("minilm-l6"), num_labels=2)
    for weight in (model.bert.pooler.dense.weight, model.classifier.weight):
        torch.nn.init.normal_(weight, std=0.02)
    model.bert.pooler.dense.bias.data.zero_()
    parts = task.examples(tokenizer)
    texts = [[part.data.tokens[a:b].tolist() for a, b in part.data.windows] for part in parts]
    labels = [torch.tensor(part.labels) for part in parts]
    count, batch = len(texts[0]), task.batch
    steps = round(task.epochs * count / batch)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    warmup = round(0.1 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / max(warmup, 1), max(0.0, (steps - s) / max(steps - warmup, 1)))
    )
    rng, order, began = np.random.default_rng(0), [], time.monotonic()
    model.train()
    for module in model.modules():  # the trainer here has no dropout
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for _ in range(steps):
        if len(order) < batch:
            order = [*order, *rng.permutation(count)]
        chosen, order = order[:batch], order[batch:]
        ids, mask = batch_of([texts[0][i] for i in chosen])
        loss = model(ids, attention_mask=mask, labels=labels[0][chosen]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    took = time.monotonic() - began
    model.eval()
    found = []
    with torch.no_grad():
        for at in range(0, len(texts[1]), 64):
            ids, mask = batch_of(texts[1][at : at + 64])
            found += model(ids, attention_mask=mask).logits.argmax(-1).tolist()
    ours = args.out / task.name / "teacher.json"
    against = json.loads(ours.read_text())["predictions"] if ours.exists() else None
    scores = glue.evaluate(task.task, found, labels[1].tolist(), against=against)
    scores |= {"seconds": took, "transformers": transformers.__version__, "torch": torch.__version__}
    files.atomic_write(args.out / "transformers.json", json.dumps(scores, indent=1) + "\n")
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
