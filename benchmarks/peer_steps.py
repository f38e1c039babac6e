"""RADLADS steps 1 and 2 in eager PyTorch at its best, the other side of `steps.py`. Run by the driver, not by
hand.

Step 1 frees each layer's graph before the next layer starts. Step 2 fuses LM head and KL over row chunks;
AdamW is the fused one; the driver sets the allocator to keep its pages. micro_batch below the batch size
accumulates gradients.
"""

from __future__ import annotations


def begin(threads: int) -> dict:
    global torch, F, P, peer_model
    import peer_model
    import peers_torch as P
    import torch
    import torch.nn.functional as F

    return P.prepare(threads)


def optimizer(groups):
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)


def finish(opt, parameters):
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    opt.step()
    opt.zero_grad()


def batches(inputs, micro_batch):
    return torch.from_numpy(inputs["tokens"]).long().split(micro_batch)


def linear_parameters(model):
    return [
        p
        for block in model.blocks
        for kind, m in block.mixers.items()
        if kind != "softmax"
        for p in m.parameters()
    ]


def align(case, inputs):
    """Step 1: every layer's linear mixer against its softmax mixer, whose output flows on."""
    model = peer_model.load(case["probe"], case.get("layers"))
    model.requires_grad_(False)
    parameters = [p.requires_grad_() for p in linear_parameters(model)]
    opt, parts, count = (
        optimizer([{"params": parameters, "lr": 1e-3}]),
        batches(inputs, case["micro_batch"]),
        len(model.blocks),
    )

    def losses(backward=True):
        """Per layer, averaged over the batch."""
        out = torch.zeros(count)
        for tokens in parts:
            x, (cos, sin) = model.embed(tokens), model.rope_table(tokens.shape[1])
            for i, block in enumerate(model.blocks):
                normed = block.mixer_norm(x)
                with P.arithmetic(case):
                    target = block.mixers["softmax"](normed, cos, sin).float()
                    student = block.mixers["gated_delta"](normed, cos, sin).float()
                loss = (
                    (target - student).norm(dim=-1).mean()
                    * x.shape[-1] ** -0.5
                    * (len(tokens) / len(inputs["tokens"]))
                )
                if backward:
                    (loss / count).backward()
                out[i] += loss.detach()
                if i + 1 < count:
                    x = x + target
                    with P.arithmetic(case):
                        x = x + block.mlp(block.mlp_norm(x))
        return out

    def step():
        losses()
        finish(opt, parameters)

    def check():
        with torch.no_grad():
            return [float(losses(False).mean())]

    return {"step": step, "check": check}


def distill(case, inputs, cached=False):
    """Step 2: KL(teacher, hybrid) on the logits, all parameters train, two learning rates; `cached`: the
    teacher's hidden states were computed before.
    """
    teacher, student = peer_model.load(case["teacher"]), peer_model.load(case["hybrid"], case.get("layers"))
    teacher.requires_grad_(False)
    mixers = [p for block in student.blocks for p in block.mixers.parameters()]
    taken = {id(p) for p in mixers}
    rest = [p for p in student.parameters() if id(p) not in taken]
    opt = optimizer([{"params": mixers, "lr": 1e-4}, {"params": rest, "lr": 1e-5}])
    everything, parts = mixers + rest, batches(inputs, case["micro_batch"])
    head, fixed = student.embed.weight, teacher.embed.weight

    def states(tokens):
        with torch.no_grad(), P.arithmetic(case):
            return teacher(tokens).flatten(0, 1)

    known = {id(tokens): states(tokens) for tokens in parts} if cached else {}

    def loss(tokens):
        target = known[id(tokens)] if cached else states(tokens)
        with P.arithmetic(case):
            return P.LMHeadKL.apply(student(tokens).flatten(0, 1), head, target, fixed)

    def step():
        for tokens in parts:
            (loss(tokens) * (len(tokens) / len(inputs["tokens"]))).backward()
        finish(opt, everything)

    def check():
        with torch.no_grad():
            return [sum(float(loss(tokens)) * len(tokens) for tokens in parts) / len(inputs["tokens"])]

    return {"step": step, "check": check}


def distill_cached(case, inputs):
    return distill(case, inputs, True)


def forward(case, inputs):
    """Final hidden states of a whole batch, no gradients: scoring, evaluation, prefill."""
    model, tokens = peer_model.load(case["hybrid"], case.get("layers")), batches(inputs, case["batch"])[0]

    def run():
        with torch.no_grad(), P.arithmetic(case):
            return model(tokens)

    return {"step": run, "check": lambda: [float(run().double().square().sum().sqrt())]}


def decode(case, inputs):
    """`new` tokens, one by one, after a prompt of length T: each is the likeliest one."""
    model, tokens, new = peer_model.load(case["hybrid"]), batches(inputs, case["batch"])[0], case["new"]
    length = tokens.shape[1]
    with torch.no_grad():
        prompt = model.states(len(tokens), length + new)
        last = model(tokens, prompt)[:, -1:]

    def run():
        with torch.no_grad():
            hidden, states, chosen = last, [s.fork() for s in prompt], []
            for i in range(new):
                chosen.append(F.linear(hidden, model.embed.weight).argmax(-1))
                hidden = model(chosen[-1], states, length + i)
        return hidden

    return {"step": run, "check": lambda: [float(run().double().square().sum().sqrt())]}


BUILDERS = {f.__name__: f for f in (align, distill, distill_cached, forward, decode)}

if __name__ == "__main__":
    from protocol import serve

    serve(begin, BUILDERS)
