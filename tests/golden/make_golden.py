"""Writes the golden files: `python tests/golden/make_golden.py`, with torch, transformers and safetensors.

Model files and the `llama` numbers come from transformers (float32); ops and hybrids from `naive_torch.py`
(float64), which is first held against transformers. Running it again rewrites the same numbers up to the
rounding of another torch build.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import recipe
import torch
from naive_torch import forward, gated_delta_rule, kl, next_token_loss, window_linear, window_softmax
from recipe import ADAMW, CONFIGS, HERE, MODELS, internal_name, tokens, training_tokens
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

LENGTHS = {"llama3_rope": 48}  # past original_max_position_embeddings; the others use 20


def write_weights(folder, config, storage):
    """Random weights, rounded to the stored type, as one safetensors file or as shards with an index."""
    hf = LlamaForCausalLM(LlamaConfig(**config))
    shapes = {n: tuple(p.shape) for n, p in hf.named_parameters()}
    weights = recipe.random_weights(shapes, seed=len(config["architectures"][0]) + config["vocab_size"])
    weights = {n: torch.from_numpy(w).to(getattr(torch, storage["dtype"])) for n, w in weights.items()}
    names = sorted(weights)
    cut = [names] if storage["shards"] == 1 else [names[: len(names) // 2], names[len(names) // 2 :]]
    size = sum(w.numel() * w.element_size() for w in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": {}}
    for i, part in enumerate(cut):
        file = "model.safetensors" if len(cut) == 1 else f"model-{i + 1:05d}-of-{len(cut):05d}.safetensors"
        save_file({n: weights[n] for n in part}, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
        index["weight_map"].update(dict.fromkeys(part, file))
    if len(cut) > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(dict(config, dtype=storage["dtype"]), indent=1) + "\n")


def load(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def core_config(hf):
    """The numbers of `hybridattn`'s config that the naive forward needs, from a loaded HF model."""
    rotary = hf.model.rotary_emb
    return dict(
        head_dim=hf.config.head_dim,
        norm_eps=hf.config.rms_norm_eps,
        rope_inv_freq=rotary.inv_freq.double(),
        rope_attention_factor=float(rotary.attention_scaling),
    )


def parameters(hf, dtype=torch.float64):
    """Detached copies by internal name, requiring gradients."""
    return {internal_name(n): p.detach().to(dtype).clone().requires_grad_() for n, p in hf.named_parameters()}


def adamw(params, clip):
    opt = torch.optim.AdamW(
        params, lr=ADAMW["lr"], betas=ADAMW["betas"], eps=ADAMW["eps"], weight_decay=ADAMW["weight_decay"]
    )

    def step(loss):
        opt.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params, clip) if clip else torch.zeros(())
        opt.step()
        return float(loss.detach()), float(norm)

    return step


def llama(name):
    """logits and loss of one config; checks the naive forward against it."""
    config, storage = CONFIGS[name]
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, config, storage)
    hf = load(folder)
    ids = tokens(config, (2, LENGTHS.get(name, 20)), seed=3)
    with torch.no_grad():
        out = hf(torch.from_numpy(ids).long(), labels=torch.from_numpy(ids).long())
        core = core_config(hf)
        kinds = [("softmax", {})] * config["num_hidden_layers"]
        naive, _ = forward(parameters(hf), core, kinds, torch.from_numpy(ids))
    error = float((naive - out.logits).abs().max() / out.logits.abs().max())
    assert error < 1e-5, f"{name}: naive forward is {error} away from transformers"
    loss = next_token_loss(naive, torch.from_numpy(ids))
    assert abs(float(loss) - float(out.loss)) < 1e-5
    np.savez_compressed(
        folder / "golden.npz",
        tokens=ids,
        logits=out.logits.numpy(),
        loss=float(loss),
        rope_inv_freq=core["rope_inv_freq"].numpy(),
        rope_attention_factor=core["rope_attention_factor"],
    )
    print(f"{name}: loss {float(out.loss):.5f}, naive against transformers {error:.1e}")


def train():
    """`base`: all gradients of the mean loss on batch 0, then ten AdamW steps; transformers in float32."""
    hf = load(MODELS / "base")
    batches = torch.from_numpy(training_tokens(CONFIGS["base"][0])).long()
    hf(batches[0], labels=batches[0]).loss.backward()
    grads = {"grad/" + internal_name(n): p.grad.numpy().copy() for n, p in hf.named_parameters()}
    step = adamw(list(hf.parameters()), ADAMW["clip"])
    losses, norms = zip(*(step(hf(b, labels=b).loss) for b in batches))
    np.savez_compressed(HERE / "base_train.npz", losses=losses, grad_norms=norms, **grads)
    print("train", np.round(losses, 4))


def distill():
    """Student = perturbed `base`, teacher = `base`: gradient norms on batch 0, ten AdamW steps; float32."""
    teacher, student = load(MODELS / "base"), load(MODELS / "base")
    weights = {internal_name(n): p.detach().numpy() for n, p in student.named_parameters()}
    weights = recipe.perturbed(weights)
    with torch.no_grad():
        for n, p in student.named_parameters():
            p.copy_(torch.from_numpy(weights[internal_name(n)]))
    batches = torch.from_numpy(training_tokens(CONFIGS["base"][0])).long()

    def loss(b):
        with torch.no_grad():
            target = teacher(b).logits
        return kl(target, student(b).logits)

    loss(batches[0]).backward()
    grads = {"grad_norm/" + internal_name(n): float(p.grad.norm()) for n, p in student.named_parameters()}
    step = adamw(list(student.parameters()), ADAMW["clip"])
    losses, norms = zip(*(step(loss(b)) for b in batches))
    np.savez_compressed(HERE / "base_distill.npz", losses=losses, grad_norms=norms, **grads)
    print("distill", np.round(losses, 4))


def probe(kind):
    """`base` plus one linear mixer in every layer: transferred weights, deterministic extras; float64."""
    hf = load(MODELS / "base")
    core, p = core_config(hf), parameters(hf)
    layers, heads = hf.config.num_hidden_layers, hf.config.num_attention_heads
    groups, hd, width = hf.config.num_key_value_heads, hf.config.head_dim, hf.config.hidden_size
    shapes = {}
    for i in range(layers):
        at = f"layers.{i}.{kind}."
        for n in "qkvo":
            w = p[f"layers.{i}.softmax.{n}_proj.weight"].detach()
            if kind == "gated_delta" and n in "kv":  # grouped heads are repeated head by head
                w = w.view(groups, hd, width).repeat_interleave(heads // groups, 0).reshape(heads * hd, width)
            p[f"{at}{n}_proj.weight"] = w.clone().requires_grad_()
        if kind == "gated_delta":
            shapes |= {
                at + "g_proj.weight": (heads * hd, width),
                at + "b_proj.weight": (heads, width),
                at + "a_proj.weight": (heads, width),
                at + "A_log": (heads,),
                at + "dt_bias": (heads,),
                at + "norm.weight": (hd,),
            }
        else:
            shapes |= {
                at + "feature_q.weight": (heads, hd, hd),
                at + "feature_k.weight": (groups, hd, hd),
                at + "gate": (heads,),
            }
    extras = getattr(recipe, kind + "_extras")(shapes)
    p |= {n: torch.from_numpy(w).double().requires_grad_() for n, w in extras.items()}
    return core, p, layers


def align(kind, linear):
    """Step 1 on the probe: losses per layer over ten steps, gradient norms on batch 0; no clipping."""
    batches = torch.from_numpy(training_tokens(CONFIGS["base"][0]))
    core, p, layers = probe(kind)
    mine = [n for n in p if f".{kind}." in n]
    if kind == "window_linear":  # its transferred projections stay as they are
        mine = [n for n in mine if "feature" in n or n.endswith(".gate")]
    step, rows, norms = adamw([p[n] for n in mine], clip=0.0), [], {}
    for b in batches:
        _, losses = forward(p, core, [("softmax", {})] * layers, b, align_to=linear)
        rows.append([float(x.detach()) for x in losses])
        step(sum(losses))
        norms = norms or {"align_grad_norm/" + n: float(p[n].grad.norm()) for n in mine}
    return {"align_losses": rows, **norms}


def hybrid(kind, options, name):
    """Two-layer hybrid (layer 0 softmax, layer 1 linear): logits, step-2 losses and gradient norms."""
    batches = torch.from_numpy(training_tokens(CONFIGS["base"][0]))
    kinds = [("softmax", {}), (kind, options)]
    core, p, _ = probe(kind)
    with torch.no_grad():
        logits = forward(p, core, kinds, batches[0, :1])[0].float().numpy()
        targets = [forward(p, core, [("softmax", {})] * 2, b)[0] for b in batches]
    names = [n for n in p if not n.startswith((f"layers.0.{kind}.", "layers.1.softmax."))]
    step, rows = adamw([p[n] for n in names], ADAMW["clip"]), []
    kl(targets[0], forward(p, core, kinds, batches[0])[0]).backward()
    norms = {"grad_norm/" + n: float(p[n].grad.norm()) for n in names}
    for target, b in zip(targets, batches):
        rows.append(step(kl(target, forward(p, core, kinds, b)[0])))
    out = {"logits": logits, "losses": [r[0] for r in rows], "grad_norms": [r[1] for r in rows], **norms}
    out |= align(kind, kinds[1])
    np.savez_compressed(HERE / f"hybrid_{name}.npz", **out)
    print(name, "align", np.round(out["align_losses"], 4)[[0, -1]], "kl", np.round(out["losses"], 4))


def save_op(name, function, inputs, constants):
    """Inputs, outputs, upstream gradients and input gradients of one op case: float64 work, float32 file."""
    leaves = {n: torch.from_numpy(x).requires_grad_() for n, x in inputs.items()}
    outputs = function(**leaves, **constants)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    rng = np.random.RandomState(9)
    up = [torch.from_numpy(single(rng.standard_normal(o.shape))) for o in outputs]
    torch.autograd.backward(outputs, up)
    data = {f"in/{n}": x for n, x in inputs.items()} | {
        f"grad/{n}": x.grad.numpy() for n, x in leaves.items()
    }
    data |= {f"out/{i}": o.detach().numpy() for i, o in enumerate(outputs)}
    data |= {f"up/{i}": u.numpy() for i, u in enumerate(up)}
    data = {n: x.astype(np.float32) for n, x in data.items()}
    data |= {f"const/{n}": np.array(x) for n, x in constants.items()}
    np.savez_compressed(HERE / f"op_{name}.npz", **data)


def single(x):
    """Float64 values that a float32 holds exactly, so that a float32 op reads the same inputs."""
    return np.asarray(x, dtype=np.float32).astype(np.float64)


def ops():
    """Gated delta rule (four decay ranges), window softmax with sinks, window_linear."""
    rng = np.random.RandomState(0)

    def normal(*shape):
        return single(rng.standard_normal(shape))

    batch, length, heads, hd = 1, 70, 2, 8  # 70: one full chunk of 64 or two of 32, and a rest

    def unit(*shape):
        x = rng.standard_normal(shape)
        return single(x / np.linalg.norm(x, axis=-1, keepdims=True))

    size = (batch, length, heads)
    decays = {
        "mild": -0.2 * rng.random_sample(size),
        "none": np.zeros(size),
        "strong": -30.0 * rng.random_sample(size),
        "mixed": np.where(rng.random_sample(size) < 0.1, -100.0, -0.05),
    }
    for name, g in decays.items():
        save_op(
            f"gated_delta_{name}",
            gated_delta_rule,
            dict(
                q=unit(*size, hd),
                k=unit(*size, hd),
                v=normal(*size, hd),
                g=single(g),
                beta=single(rng.random_sample(size)),
                state=0.3 * normal(batch, heads, hd, hd),
            ),
            {},
        )
    length, groups, heads = 45, 2, 4
    q, k, v = normal(1, length, heads, hd), normal(1, length, groups, hd), normal(1, length, groups, hd)
    for name, window, sinks in (("causal", 0, 0), ("window", 8, 0), ("sinks", 8, 3)):
        constants = dict(scale=hd**-0.5, window=window, sinks=sinks)
        save_op(f"softmax_{name}", window_softmax, dict(q=q, k=k, v=v), constants)
    f = dict(
        feature_q=single(np.eye(hd) + 0.3 * normal(heads, hd, hd)),
        gate=normal(heads),
        feature_k=single(np.eye(hd) + 0.3 * normal(groups, hd, hd)),
    )
    save_op("window_linear", window_linear, dict(q=q, k=k, v=v, **f), constants)


def main():
    logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name in CONFIGS:
        llama(name)
    train()
    distill()
    for name, spec in recipe.MIXERS.items():
        hybrid(spec["kind"], spec, name)
    ops()
    total = sum(f.stat().st_size for f in HERE.rglob("*") if f.suffix in (".npz", ".safetensors", ".json"))
    print(f"{total / 1e6:.2f} MB in {HERE}, {recipe.STEPS} steps, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
