"""Files that a user names, by path or by an address with its checksum."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import DataError
from .cache import cache_folder, made
from .download import Remote, from_address

_MARK = "#sha256="


def given(source: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The path that `source` is; of an address "https://HOST/FILE#sha256=DIGEST" the file in the cache,
    downloaded on the first call. DataError for an address without a digest, HybridAttnError when offline or
    for another content.
    """
    name = os.fspath(source)
    if not re.match(r"https?://", name):
        return Path(name)
    url, _, digest = name.partition(_MARK)
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise DataError(f"{name}: an address without a checksum; allowed: ADDRESS{_MARK} and 64 hex digits")
    folder = cache_folder(cache_dir) / "given" / digest
    path = folder / Path(url).name
    return path if path.is_file() else from_address(Remote(url, None, digest), made(folder))
