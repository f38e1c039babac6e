"""Results that a script keeps and does not make again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hybridattn.files import atomic_write


def same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Make `folder` the place of results of these settings; leave with a message when it is another's."""
    path, text = folder / "settings.json", json.dumps(settings, indent=1) + "\n"
    if path.exists() and path.read_text() != text:
        old = json.loads(path.read_text())
        changed = [name for name in {**old, **settings} if old.get(name) != settings.get(name)]
        sys.exit(f"{folder} holds results of other settings ({', '.join(changed)}): name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text)
