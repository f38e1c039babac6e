"""llama.cpp in the prefill and decode rows of `compare.py`, through llama-cpp-python's low-level functions:
llama_decode on token batches, no sampling. Run by the driver, not by hand.

Each case gives two parts, flash attention off and on; the driver takes the best. Keys and values are F16, as
is llama.cpp's default; batches have 512 tokens.
"""

from __future__ import annotations

import sys

import numpy as np

BATCH = 512


def begin(threads: int) -> dict:
    global L, used_threads, silent
    import llama_cpp as L

    used_threads = threads
    silent = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(silent, None)
    L.llama_backend_init()
    info = L.llama_print_system_info().decode()
    return {"llama-cpp-python": L.__version__, "python": sys.version.split()[0], "llama.cpp": info}


class Context:
    """A model file and one context on it."""

    def __init__(self, path: str, n_ctx: int, flash: bool):
        options = L.llama_model_default_params()
        self.model = L.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        p = L.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = n_ctx, BATCH, BATCH
        p.n_threads = p.n_threads_batch = used_threads
        p.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else L.LLAMA_FLASH_ATTN_TYPE_DISABLED
        p.no_perf = True
        self.context = L.llama_init_from_model(self.model, p)
        if not self.context:
            raise RuntimeError("llama.cpp gives no context")
        self.vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)

    def put(self, tokens: np.ndarray):
        """The next tokens; logits of the last are computed."""
        for at in range(0, len(tokens), BATCH):
            part = np.ascontiguousarray(tokens[at : at + BATCH], np.int32)
            batch = L.llama_batch_get_one(part.ctypes.data_as(L.llama_token_p), len(part))
            if L.llama_decode(self.context, batch):
                raise RuntimeError("llama_decode failed")
        L.llama_synchronize(self.context)

    def logits_norm(self) -> float:
        logits = np.ctypeslib.as_array(L.llama_get_logits_ith(self.context, -1), (self.vocabulary,))
        return float(np.sqrt(np.square(logits.astype(np.float64)).sum()))

    def __del__(self):
        if getattr(self, "context", None):
            L.llama_free(self.context)
        if getattr(self, "model", None):
            L.llama_model_free(self.model)


def contexts(case):
    n_ctx = -(-(case["length"] + case["room"]) // 256) * 256
    return {f"flash {'on' if on else 'off'}": Context(case["model"], n_ctx, on) for on in (False, True)}


def offered(made, run):
    """A part for each context, and the norm of the logits after a run as the check."""

    def check():
        first = next(iter(made.values()))
        run(first)
        return [first.logits_norm()]

    return {name: (lambda c=c: run(c)) for name, c in made.items()} | {"check": check}


def prefill(case, inputs):
    """A prompt into an empty cache, and the logits after it."""
    tokens = inputs["tokens"][0]

    def run(c):
        c.clear()
        c.put(tokens)

    return offered(contexts(case), run)


def decode(case, inputs):
    """`new` tokens one by one after a prompt; every call goes on where the one before ended."""
    made, zero = contexts(case), np.zeros(1, np.int32)
    for c in made.values():
        c.put(inputs["tokens"][0])

    def run(c):
        for _ in range(case["new"]):
            c.put(zero)

    return offered(made, run)


if __name__ == "__main__":
    from protocol import serve

    serve(begin, {"prefill": prefill, "decode": decode})
