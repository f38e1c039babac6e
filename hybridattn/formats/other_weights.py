"""What folders hold in the place of a model's safetensors files."""

from __future__ import annotations

from pathlib import Path

_OTHERS = {  # what folders hold in the place of a model's safetensors files, the likeliest first
    "pytorch_model*.bin": "PyTorch files: save the model as safetensors",
    "adapter_model.*": "an adapter of PEFT: merge it into its model (merge_and_unload) and save that",
    "adapter_config.json": "an adapter of PEFT: merge it into its model (merge_and_unload) and save that",
    "consolidated.*": "weights in the layout of the model's makers: convert them with transformers",
    "model-*-of-*.safetensors": "parts of a model without model.safetensors.index.json: fetch that too",
    "*.incomplete": "a download that was not finished: fetch it again",
    "*.gguf": "a GGUF file: give its own path",
    "tf_model*.h5": "TensorFlow files: save the model as safetensors",
    "flax_model*.msgpack": "Flax files: save the model as safetensors",
    "model*.onnx": "an ONNX file: save the model as safetensors",
    "*.safetensors": "safetensors files of other names: the one to be read is called model.safetensors",
}


def other_weights(folder: Path) -> str:
    """The end of an error: what a folder without a model's files holds, and what to do; "" when nothing that
    is known is there.
    """
    return next((f"; it has {what}" for pattern, what in _OTHERS.items() if any(folder.glob(pattern))), "")
