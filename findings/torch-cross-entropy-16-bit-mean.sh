#!/bin/sh
# Expected: the mean of cross_entropy over tokens is taken in float32 where logits have 16 bits, as
# mean(), sum() and kl_div do it, and only the answer is rounded.
# Happens: on the CPU the losses and even the number of tokens are added up in the logits' own type:
# in bfloat16 perplexity moves by up to 6%, in float16 the mean is infinite or NaN on long texts.
# Matters: a perplexity that is measured in bfloat16 on a CPU differs by more than a compression
# costs, and changes with how many tokens stand in a batch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import math

import torch
from torch.nn import functional

print("torch", torch.__version__)
worst = {}
for tokens in (300, 8192, 65536):
    draw = torch.Generator().manual_seed(2)
    logits = (2 * torch.randn(tokens, 50, generator=draw)).bfloat16()
    target = torch.randint(0, 50, (tokens,), generator=draw)
    right = functional.cross_entropy(logits.float(), target).item()
    for kind in (torch.bfloat16, torch.float16):
        given = logits.to(kind)
        mean = functional.cross_entropy(given, target).item()
        one_by_one = functional.cross_entropy(given, target, reduction="none").mean().item()
        print(
            f"{tokens:6d} tokens, {str(kind)[6:]:>8}: mean {mean:.4f}, mean of the single losses {one_by_one:.4f}, "
            f"of float32 logits {right:.4f}: perplexity x {math.exp(mean - right):.3f}"
        )
        assert abs(one_by_one - right) < 2.0**-7 * right
        worst[kind, tokens] = mean - right
assert any(abs(worst[torch.bfloat16, n]) > 0.03 for n in (300, 8192, 65536))
assert math.isnan(worst[torch.float16, 65536])
alike = functional.cross_entropy(torch.zeros(300, 8).bfloat16(), torch.zeros(300, dtype=torch.long)).item()
print(f"300 tokens that all have a loss of ln 8 = {math.log(8):.4f}: {alike}")
assert alike == 2.125
kl = functional.kl_div(
    torch.zeros(300, 8).bfloat16().log_softmax(-1), torch.eye(8).bfloat16()[torch.zeros(300, dtype=torch.long)],
    reduction="batchmean",
).item()
print("the same by kl_div:", kl)
assert abs(kl - math.log(8)) < 0.01
PYTHON
