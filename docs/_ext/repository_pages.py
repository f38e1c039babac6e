"""Pages that lie outside docs/ are part of the site all the same, and links to and from them lead there.

On the repository's own pages a link names a file (`../CONTRIBUTING.md`, and there `docs/mixers.md`); the
site has a page for each, docs/contributing.md say, which includes the file. In a table of contents `page?`
stands for a page that may be missing.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "benchmarks/README.md": "benchmarks",
    "findings/README.md": "findings",
}
OPTIONAL = re.compile(r"^([a-z/-]+)\?(?=\n)", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def links_of(app: Sphinx, page: str, text: str) -> str:
    """`text` with links to pages as the site has them; page: the file's path inside the repository."""

    def as_on_site(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if path in PAGES:
            return f"/{PAGES[path]}.md{anchor}"
        if page in PAGES:
            inside = path.removeprefix("docs/")
            return f"/{inside}{anchor}" if inside != path else f"/../{path}{anchor}"
        return match[0]

    return LINK.sub(as_on_site, text)


def present(app: Sphinx, text: str) -> str:
    """`text` without the lines `page?` whose page is not there; of the others without the mark."""
    return OPTIONAL.sub(lambda m: m[1] if (Path(app.srcdir) / f"{m[1].strip()}.md").is_file() else "", text)


def source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    content[0] = present(app, content[0])
    content[0] = links_of(app, f"docs/{docname}.md", content[0])


def include_read(app: Sphinx, relative_path: Path, docname: str, content: list[str]) -> None:
    content[0] = links_of(app, posixpath.normpath(f"docs/{relative_path.as_posix()}"), content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", source_read)
    app.connect("include-read", include_read)
    return {"parallel_read_safe": True}
