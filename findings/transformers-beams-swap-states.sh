#!/bin/sh
# Expected: when beam search goes on from another beam, that beam's state goes along, as keys,
# values and the states of Mamba-2 and gated delta layers do.
# Happens: the linear attention of MiniMax and the recurrence of RecurrentGemma keep the state of
# whatever beam had the place before: the score that is reported is not that of the text.
# Matters: beam search over these linear layers goes by wrong numbers, and nothing fails.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 transformers==5.24.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__)
common = dict(vocab_size=64, hidden_size=32, bos_token_id=None, eos_token_id=None, pad_token_id=0)
attention = dict(num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4, intermediate_size=48)
both = dict(layer_types=["linear_attention", "full_attention"] * 2)
delta = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
kinds = {
    "llama": attention,
    "qwen3_5_text": dict(**attention, **both, **delta, head_dim=8),
    "mamba2": dict(num_hidden_layers=3, state_size=8, num_heads=8, head_dim=8, expand=2, n_groups=1),
    "minimax": dict(**attention, **both, num_local_experts=2, num_experts_per_tok=1, block_size=8, head_dim=8),
    "recurrent_gemma": dict(
        num_hidden_layers=3, intermediate_size=96, num_attention_heads=4, lru_width=32, attention_window_size=16
    ),
}
wrong = {}
for kind, settings in kinds.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **settings)).eval()
    for matrix in model.parameters():
        if matrix.ndim > 1:
            torch.nn.init.normal_(matrix, std=0.15)
    tokens = torch.randint(1, 60, (1, 20))
    for beams in (1, 4):
        out = model.generate(
            tokens, num_beams=beams, max_new_tokens=12, do_sample=False, length_penalty=0.0,
            return_dict_in_generate=True, output_scores=True,
        )
        steps = model.compute_transition_scores(
            out.sequences, out.scores, getattr(out, "beam_indices", None), normalize_logits=beams == 1
        )
        told = float(steps.sum())
        with torch.no_grad():
            logits = model(out.sequences, use_cache=False).logits.log_softmax(-1)
        own = logits[0, 19:-1].gather(1, out.sequences[0, 20:, None]).sum().item()
        wrong[kind, beams] = abs(told - own) > 1e-3
        print(f"{kind:>15}, {beams} beams: log-probability as told {told:.4f}, of the text itself {own:.4f}")
assert not any(wrong[kind, 1] for kind in kinds), "changed"
assert [kind for kind in kinds if wrong[kind, 4]] == ["minimax", "recurrent_gemma"], "changed"
PYTHON
