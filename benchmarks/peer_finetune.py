"""transformers fine-tuned as `table_encoder.py` fine-tunes its teacher: the same sentences, batches of the
same size, rates and epochs. For the environment that has torch:

    python benchmarks/peer_finetune.py --sst2 FILE.tsv [--train 16000] [--dev 2000] [--epochs 2]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
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

    from hybridattn import Model, hub

    args = table_encoder.arguments()
    torch.manual_seed(0)
    train, held = table_encoder.sentences(args)
    tokenizer = Model.from_pretrained("minilm-l6").tokenizer
    model = BertForSequenceClassification.from_pretrained(hub.resolve("minilm-l6"), num_labels=2)
    for weight in (model.bert.pooler.dense.weight, model.classifier.weight):
        torch.nn.init.normal_(weight, std=0.02)
    model.bert.pooler.dense.bias.data.zero_()
    texts = [tokenizer.encode_batch([e.text_a for e in part]) for part in (train, held)]
    labels = [torch.tensor([int(e.label) for e in part]) for part in (train, held)]
    steps = round(args.epochs * len(train) / args.batch)
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
        if len(order) < args.batch:
            order = [*order, *rng.permutation(len(train))]
        chosen, order = order[: args.batch], order[args.batch :]
        ids, mask = batch_of([texts[0][i] for i in chosen])
        loss = model(ids, attention_mask=mask, labels=labels[0][chosen]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(held), 64):
            ids, mask = batch_of(texts[1][at : at + 64])
            right += int((model(ids, attention_mask=mask).logits.argmax(-1) == labels[1][at : at + 64]).sum())
    print(f"transformers: accuracy {right / len(held):.4f} on {len(held)}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
