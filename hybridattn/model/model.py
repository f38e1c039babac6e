"""The model a user holds: loaded, saved, stored in fewer bits and sampled from."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

import ml_dtypes
import numpy as np

from ..checks import refuse
from ..compute import chosen as chosen_compute
from ..data import hub
from ..data.old_tokenizer_files import present
from ..data.tokenizer import Tokenizer
from ..data.tokens import TokenData
from ..distributed.state import is_writer
from ..errors import ConfigError, DataError
from ..families import as_in_file, config_from_hf
from ..files import atomic_write
from ..formats.dtypes import dtype_name
from ..formats.exported import as_exported
from ..formats.gguf import open_gguf
from ..formats.gguf_tokenizer import UnknownTokenizer
from ..formats.loading import load_into, tensors_of
from ..formats.safetensors import open_weights, save_safetensors
from ..formats.source import WeightSource
from ..results.progress import log
from ..signatures import options_of
from .base import BaseModel, chosen
from .card import write_card
from .generate import OptionKeywords, Options, generate, stream
from .generation_config import NAME as GENERATION
from .generation_config import read_generation
from .quantise import astype
from .saved import HYBRID_TYPE, Section, exported_config, read_config, remove_others, to_hf

SAVE_DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


class Model(BaseModel):
    """A teacher (all layers softmax), a probe (softmax and a linear mixer in every layer) or a hybrid.

    layers: one list of mixer specs per layer; None makes every layer softmax. Weights are zero until loaded
    or copied.
    """

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        softmax_layers: int | Sequence[int] | None = None,
        dtype: str = "float32",
        compute: str = "float32",
    ) -> Model:
        """Load a Hugging Face folder, a folder written by `save_pretrained`, a .gguf file, or what
        `hub.resolve` knows by name.

        dtype: "float32", what training needs; "auto" keeps bfloat16, float16, q8_0, q4_0 and q4_1 matrices
        as they are, mapped from the file, and makes the rest float32; any other as `astype`.

        softmax_layers: of a checkpoint that holds both mixers, load the hybrid with that many softmax layers
        (the first of its saved order) or with these.

        compute: see `compute`.

        Raises ConfigError or WeightError naming the file and field, DataError for a damaged tokenizer.
        """
        dtype, compute = dtype_name(dtype, more=("auto",)), chosen_compute(compute)
        source = hub.resolve(path)
        log.info("reading %s as %s", source, dtype)
        keep = dtype != "float32"
        model = cls._from_gguf(source, keep) if source.suffix == ".gguf" else cls._from_folder(source, keep)
        if dtype not in ("auto", "float32"):
            model = model.astype(dtype)
        model.compute = compute
        return model if softmax_layers is None else model.to_hybrid(chosen(model, softmax_layers))

    @classmethod
    def _from_gguf(cls, path: Path, keep: bool) -> Model:
        gguf = open_gguf(path)
        try:
            tokenizer = Tokenizer.from_gguf(path)
        except UnknownTokenizer as error:
            warnings.warn(f"the model is loaded without a tokenizer: {error}", stacklevel=3)
            tokenizer = None
        model = cls(gguf.config, gguf.layers, tokenizer)
        with gguf.source:
            model._load(gguf.source, keep)
        return model

    @classmethod
    def _from_folder(cls, folder: Path, keep: bool) -> Model:
        exported = exported_config(folder)
        if exported is not None:
            model = cls._from_exported(folder, exported)
            if model is not None:
                return model
        config, section = read_config(folder / "config.json")
        config = replace(config, generation=read_generation(folder))
        tokenizer = _tokenizer(folder)
        with open_weights(folder) as weights:
            try:
                model = cls(as_in_file(config, weights.names()), section.layers, tokenizer)
            except ConfigError as error:
                raise ConfigError(f"{folder / 'config.json'}: {error}") from None
            model._load(weights, keep)
        model.plan = section.plan
        model.softmax_order = section.softmax_order
        if section.gates is not None:
            model.gates[:] = section.gates
        return model

    @classmethod
    def _from_exported(cls, folder: Path, content: dict[str, Any]) -> Model | None:
        """A hybrid that `export` wrote as a model of another kind; None where the folder holds none."""
        try:
            with open_weights(folder) as source:
                weights = as_exported(source, content)
                if weights is None:
                    return None
                config = replace(config_from_hf(weights.hf), generation=read_generation(folder))
                model = cls(config, weights.layers, _tokenizer(folder))
                model._load(weights, keep=False)
        except ConfigError as error:
            raise ConfigError(f"{folder / 'config.json'}: {error}") from None
        return model

    def _load(self, source: WeightSource, keep: bool) -> None:
        kept = set(self.matrices()) if keep else set()
        load_into(self.arrays(), source, self.model_config, dict.fromkeys(kept, self.store))

    def astype(self, dtype: str, calibration: TokenData | None = None) -> Model:
        """This model with its matrices (embedding, projections, LM head) stored in another type: "float32",
        "bfloat16", "float16", or GGML's blocks "q8_0", "q4_0", "q4_1" of 32 numbers.

        Everything else stays float32. The 4-bit types keep the embedding and the LM head in q8_0, since those
        lose most. What is stored cannot be trained; `align` trains the linear mixers of its probe, which are
        float32, beside it. Raises ConfigError, naming the parameter, where rows are not whole blocks.

        calibration: text by which matrices of blocks are rounded so that their products come out right (GPTQ,
        arXiv 2210.17323); 16,384 tokens will do. The 4-bit types then keep values, outputs and down
        projections in q8_0.
        """
        return astype(self, dtype, calibration)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write config.json, model.safetensors and the tokenizer, which `from_pretrained` reads back, and a
        model card (README.md), unless there is one that is not ours.

        Where the folder held another model, files of that one that would be read beside these are taken away
        (shards, generation_config.json, tokenizer files); other files stay.

        An all-softmax model is written as the Hugging Face model it came from; any other gets model_type
        "hybridattn", `layer_types` and a `hybridattn` section with the mixers and the plan. config.json is
        taken away first and written last: a folder that has one is whole.

        dtype: of all weights, "float32", "bfloat16" or "float16". None keeps the type of every weight, which
        safetensors cannot for block types: ConfigError.
        """
        if not is_writer():  # rank 0 of a world writes
            return
        if dtype is None:
            block = next((name for name, _ in self.stored().values() if name not in SAVE_DTYPES), None)
            if block:
                raise refuse(
                    "dtype", None, f"{', '.join(SAVE_DTYPES)}, since safetensors files have no {block}"
                )
        else:
            dtype = dtype_name(dtype)
            if dtype not in SAVE_DTYPES:
                raise refuse("dtype", dtype, ", ".join(SAVE_DTYPES))
        kinds = [name for name, _ in self.stored().values()]
        saved = Section(self.layers, [float(gate) for gate in self.gates], self.plan, self.softmax_order)
        config = to_hf(
            self.model_config, saved, dtype or (max(set(kinds), key=kinds.count) if kinds else "float32")
        )
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        was_model = (target / "config.json").is_file()
        (target / "config.json").unlink(missing_ok=True)
        tensors = tensors_of(self.model_config, self.arrays(), SAVE_DTYPES[dtype] if dtype else None)
        save_safetensors(target / "model.safetensors", tensors, {"format": "pt"})
        if self.tokenizer is not None:
            self.tokenizer.save(target)
        if self.model_config.generation:
            text = json.dumps(self.model_config.generation, indent=2, ensure_ascii=False)
            atomic_write(target / GENERATION, text + "\n")
        if was_model:
            remove_others(target, self.tokenizer is not None, bool(self.model_config.generation))
        log.info("wrote %s", target)
        write_card(target, self, "transformers" if config.get("model_type") != HYBRID_TYPE else "hybridattn")
        atomic_write(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def export(self, folder: str | os.PathLike[str], layout: str, **options: Any) -> Any:
        """Write a folder that other programs read, in a layout that holds this model, see
        `hybridattn.export.export`. Raises ExportError, naming layer and reason, for one that does not.
        """
        # by name, since layouts are written on top of what stands here
        return import_module("hybridattn.export").export(self, folder, layout, **options)

    @options_of(Options)
    def generate(self, prompt: Any, **options: Unpack[OptionKeywords]) -> Any:
        """Continue a prompt or a list of prompts, see `hybridattn.model.generate`."""
        return generate(self, prompt, **options)

    @options_of(Options)
    def stream(self, prompt: Any, **options: Unpack[OptionKeywords]) -> Iterator[str]:
        """Continue one prompt, piece by piece as it is made, see `hybridattn.model.generate`."""
        return stream(self, prompt, **options)


def _tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer; None where it has none, and, with a warning, where it has only files that
    cannot be read here: the model then works on token ids.
    """
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_folder(folder)
    if not present(folder):
        return None
    try:
        return Tokenizer.from_folder(folder)
    except DataError as error:
        warnings.warn(f"the model is loaded without a tokenizer: {error}", stacklevel=4)
        return None
