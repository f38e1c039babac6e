"""Gemma 3: which layers see how much, and turn how; hybrids of it; GGUF files of its architecture."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from golden import recipe
from test_golden import assert_close

from hybridattn import Model, _core, export, radlads, select
from hybridattn.errors import ConfigError, ExportError
from hybridattn.families import config_from_hf
from hybridattn.formats.safetensors import open_weights
from hybridattn.select import plan

HF = dict(recipe.FAMILIES["gemma3"], vocab_size=257, eos_token_id=256, max_position_embeddings=256)
TOKENS = (np.arange(60, dtype=np.int32)[None] * 37) % 256


@pytest.fixture(scope="module")
def teacher() -> Model:
    model = Model(config_from_hf(HF), tokenizer=tiny.tokenizer())
    tiny.randomize(model, 3)
    return model


def test_which_layers_are_local():
    config = config_from_hf(HF)
    assert config.local_layers == (0, 2) and config.local_window == 9 and config.sliding_window == 0
    assert config.local_inv_freq[1] != config.rope_inv_freq[1] and config.block == "sandwich"
    assert config.embed_scale == float(np.float32(32**0.5))
    plain = {k: v for k, v in HF.items() if k not in ("layer_types", "rope_parameters")}
    every = config_from_hf(plain | {"num_hidden_layers": 13})
    assert [i for i in range(13) if i not in every.local_layers] == [5, 11]
    assert config_from_hf(plain | {"sliding_window_pattern": 3}).local_layers == (0, 1)
    full = config_from_hf(plain | {"layer_types": ["full_attention"] * 3})
    assert full.local_layers == () and full.local_window == 0


def test_old_and_new_keys_of_rope_say_the_same():
    old = {k: v for k, v in HF.items() if k != "rope_parameters"}
    old |= {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    }
    assert config_from_hf(old) == config_from_hf(HF)
    bare = {k: v for k, v in HF.items() if k != "rope_parameters"}  # the class's own bases
    assert config_from_hf(bare).local_inv_freq == config_from_hf(HF).local_inv_freq


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_pre_attn_scalar": 16}, r"query_pre_attn_scalar is 16; allowed: head_dim \(12\)"),
        ({"layer_types": ["full_attention"]}, "layer_types is .*the kinds of 3 layers"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types is .*full_attention and sliding_attention"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters is .*an object for full_attention"),
        ({"rope_parameters": {"full_attention": 3}}, "rope_parameters of full_attention is 3"),
        ({"rope_parameters": 3}, "rope_parameters is 3; allowed: null or an object"),
        ({"sliding_window_pattern": 0, "layer_types": None}, "sliding_window_pattern is 0"),
        ({"sliding_window": -1}, "sliding_window is -1"),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "yarn", "factor": 4.0}}},
            "rope_parameters of sliding_attention is .*leaves scores as they are",
        ),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(HF | changes)


def test_a_local_layer_forgets_what_is_out_of_its_window(teacher):
    """With every layer local, a token 2 windows back changes nothing; with one full layer it does."""
    local = Model(config_from_hf(HF | {"layer_types": ["sliding_attention"] * 3}))
    tiny.randomize(local, 3)
    other = TOKENS.copy()
    other[0, 5] += 1
    seen = 1 + 3 * (9 - 1)  # each layer hands on what it saw
    for model, same in ((local, True), (teacher, False)):
        difference = np.abs(model.logits(other) - model.logits(TOKENS)).max(-1)[0]
        assert difference[5 : 5 + 9].all() and not difference[:5].any()
        assert (not difference[5 + seen :].any()) == same


def test_padding_and_batches(teacher):
    mask = np.arange(60) >= np.array([[7], [0]])
    both = teacher.logits(np.concatenate([TOKENS, TOKENS]), mask)
    assert_close(both[0, 7:], teacher.logits(TOKENS[:, 7:])[0], what="logits")
    assert_close(both[1], teacher.logits(TOKENS)[0], what="logits")


def test_aligned_scored_distilled(teacher, tmp_path):
    """Its layers are taught, ranked and replaced like any other's, and the hybrid comes back as it was."""
    data = tiny.text_data()
    probe = radlads.align(teacher, {"kind": "gated_delta"}, data, 30, 2, progress=False)
    np.testing.assert_array_equal(probe.logits(TOKENS), teacher.logits(TOKENS))
    losses = probe.train_result.losses
    assert (losses[-5:].mean(0) < losses[:5].mean(0)).all()
    some = tiny.text_data(24, 200)
    alone = select.score(probe, some, "kl_replace", progress=False)
    for layer in range(3):  # linear alone: its score is the KL of this hybrid
        hybrid = probe.to_hybrid([i for i in range(3) if i != layer])
        kl = _core.KLScorer(hybrid, teacher).kl(some.tokens, some.windows).mean()
        assert alone.values[layer] == pytest.approx(kl, rel=1e-4)
    assert len(select.score(probe, some, "kl_gate", progress=False).values) == 3
    hybrid, kl = probe.to_hybrid(plan.make(alone, k=1)), []
    for steps in (20, 0):
        kl.append(_core.KLScorer(hybrid, teacher).kl(data.tokens, data.windows).mean())
        if steps:
            radlads.distill(hybrid, teacher, data, steps, 2, lr_mixers=1e-3, progress=False)
    assert kl[1] < 0.95 * kl[0]
    hybrid.save_pretrained(tmp_path / "hybrid")
    again = Model.from_pretrained(tmp_path / "hybrid")
    assert again.model_config == hybrid.model_config
    assert_close(again.logits(TOKENS), hybrid.logits(TOKENS), what="logits")


def test_a_window_costs_less(teacher):
    """What a token costs in a local layer stops growing at its window."""
    near, far = (teacher.cost(context=length) for length in (9, 200))
    assert near[0] == far[0] and near[1]["softmax"]["flops_per_token"] < far[1]["softmax"]["flops_per_token"]


def test_exports_say_why_not(teacher, tmp_path):
    assert all(export.fits(teacher)[name] for name in export.layouts())
    with pytest.raises(ExportError, match="model_type is gemma3;"):
        teacher.export(tmp_path / "out", "sliding_window")


GGUF_KEYS = {
    "block_count": 3,
    "context_length": 128,
    "embedding_length": 32,
    "feed_forward_length": 40,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 12,
    "attention.value_length": 12,
    "attention.sliding_window": 9,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1e6,
    "rope.scaling.type": "linear",
    "rope.scaling.factor": 4.0,
    "attention.sliding_window_pattern": [True, False, True],
}


def gguf_of(path, **changes):
    """golden/families/gemma3 as llama.cpp's converter writes it: its names, norms with 1 added."""
    gguf_files = pytest.importorskip("gguf_files")
    from hybridattn.formats.gguf_names import from_hf

    with open_weights(recipe.FAMILY_MODELS / "gemma3") as file:
        tensors = {name: np.array(file.view(name)) for name in file.names()}
    made = {
        from_hf(name, "gemma3"): array + np.float32(1) if array.ndim == 1 else array
        for name, array in tensors.items()
    }
    keys = dict.fromkeys(gguf_files.METADATA)
    keys |= {f"gemma3.{key}": value for key, value in {**GGUF_KEYS, **changes}.items()}
    keys |= {
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.model": "none",
    }
    return gguf_files.write(path, made, architecture="gemma3", order=lambda name, tensor: tensor, **keys)


def test_a_gguf_file_is_the_checkpoint(tmp_path):
    read = Model.from_pretrained(gguf_of(tmp_path / "m.gguf"))
    original = Model.from_pretrained(recipe.FAMILY_MODELS / "gemma3")
    tokens = recipe.family_batch("gemma3")[0]
    assert read.model_config.local_layers == (0, 2)
    assert_close(read.logits(tokens), original.logits(tokens), what="logits")
    read.save_pretrained(tmp_path / "hf")
    saved = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert saved["model_type"] == "gemma3_text" and saved["architectures"] == ["Gemma3ForCausalLM"]
    assert_close(
        Model.from_pretrained(tmp_path / "hf").logits(tokens), original.logits(tokens), what="logits"
    )


def test_what_gguf_files_leave_out(tmp_path):
    """As llama.cpp takes it: every sixth layer sees all, or without a window every one."""
    path = gguf_of(tmp_path / "m.gguf", **{"attention.sliding_window_pattern": None})
    assert Model.from_pretrained(path).model_config.local_layers == (0, 1, 2)
    path = gguf_of(tmp_path / "n.gguf", **{"attention.sliding_window": None})
    assert Model.from_pretrained(path).model_config.local_layers == ()
    path = gguf_of(tmp_path / "o.gguf", **{"rope.freq_base_swa": 5000.0})
    hf = Model.from_pretrained(path).model_config.hf
    assert hf["rope_local_base_freq"] == 5000.0 and hf["rope_theta"] == 1e6
    with pytest.raises(ConfigError, match=r"sliding_window_pattern is .*a truth value for 3 layers"):
        Model.from_pretrained(gguf_of(tmp_path / "p.gguf", **{"attention.sliding_window_pattern": [True]}))
    with pytest.raises(ConfigError, match="final_logit_softcapping"):
        Model.from_pretrained(gguf_of(tmp_path / "q.gguf", final_logit_softcapping=30.0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"local_layers": [3]}, ValueError, "local_layers holds 3, allowed are layers from 0 to 2"),
        ({"local_layers": ["1"]}, ValueError, "local_layers holds '1', allowed are layers from 0 to 2"),
        ({"local_layers": 1}, TypeError, "not iterable"),
        ({"local_window": -1}, ValueError, "local_window is -1"),
        ({"local_inv_freq": [1.0]}, ValueError, "local_inv_freq has"),
        ({"embed_scale": -2.0}, ValueError, "embed_scale is -2.0, allowed are positive numbers"),
        ({"block": 4}, ValueError, "block is 4, allowed are whole numbers from 0 to 3"),
    ],
)
def test_the_core_refuses_by_name(teacher, changes, error, message):
    layers = [[{"kind": "softmax"}]] * 3
    core = teacher.model_config.to_core()
    with pytest.raises(error, match=message):
        _core.Model(core | changes, layers)
    assert _core.Model(core | {"local_layers": []}, layers).parameters()  # all layers see all


def test_a_config_says_what_local_layers_need():
    config = config_from_hf(HF)
    with pytest.raises(ConfigError, match=r"local_layers is 3; allowed: .* to 2"):
        replace(config, local_layers=(3,))
    with pytest.raises(
        ConfigError, match="local_inv_freq has 1 numbers; allowed: as many as rope_inv_freq, 6"
    ):
        replace(config, local_inv_freq=(1.0,))


def test_the_text_part_of_a_model_of_images(tmp_path):
    """What transformers writes of one, and the names that its older files have."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    text = {key: value for key, value in HF.items() if key != "model_type"}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    torch.manual_seed(0)
    theirs = transformers.Gemma3ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = Model.from_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(TOKENS).long()).logits.numpy()
    assert ours.model_config.family == "gemma3" and ours.model_config.local_layers == (0, 2)
    assert_close(ours.logits(TOKENS), expected, what="logits")
    with pytest.raises(ConfigError, match="model_type of text_config is 'llama'; allowed: gemma3_text"):
        config_from_hf({"model_type": "gemma3", "text_config": {"model_type": "llama"}})
