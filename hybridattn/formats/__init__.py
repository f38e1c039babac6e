"""Bytes on disk: safetensors and GGUF, mapped and checked, and the names of storage types.

safetensors        weights of a folder, one file or an index of several; writing them
gguf_header, gguf, gguf_tokenizer        the header, the weights and the vocabulary of a GGUF file
dtypes             names of storage types
"""
