"""The PyTorch model that a `remote_code` folder carries, in parts; `source.files` joins them for the folder.

It imports torch and transformers and nothing of this package, and this package never imports it: it is read
as text. Tests import it as it stands.
"""
