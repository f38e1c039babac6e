"""Articles of a MediaWiki export as plain text: prose and headings, without templates, tables, references
and lists of links.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO
from xml.etree import ElementTree

# sections that hold no prose
_BACK_MATTER = re.compile(
    r"^=+ *(See also|References|Notes|Footnotes|Citations|Sources|Bibliography|Further reading|External "
    r"links) *=+",
    re.M | re.I,
)
_REMOVED = (
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"<ref\b[^>]*?/>", re.I),
    re.compile(r"<(ref|gallery|math|timeline|score|table|source|imagemap)\b[^>]*>.*?</\1 *>", re.S | re.I),
)
_INNERMOST_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}|\{\|(?:(?!\{\||\|\}).)*\|\}", re.S)
_INNERMOST_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_OUTSIDE_LINK = re.compile(r"\[(?:https?:)?//\S+ ?([^\]]*)\]")
_NAMESPACE = re.compile(r"^:?(file|image|category|media|[a-z]{2,3}(-[a-z]+)?) *:", re.I)
_LEFT_OVER = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|'{2,}|__[A-Z]+__|</?[a-z][^>]*>", re.I)


def articles(export: BinaryIO) -> Iterator[tuple[str, str]]:
    """(title, plain text) of the articles of an export, in its order; redirects are left out."""
    for _, page in ElementTree.iterparse(export):
        if page.tag.rpartition("}")[2] != "page":
            continue
        space = page.tag.rpartition("page")[0]
        if page.find(f"{space}redirect") is None and page.findtext(f"{space}ns") == "0":
            title = page.findtext(f"{space}title") or ""
            yield title, plain(page.findtext(f"{space}revision/{space}text") or "")
        page.clear()


def plain(markup: str) -> str:
    """The prose of one article, paragraphs and headings apart by blank lines."""
    end = _BACK_MATTER.search(markup)
    text = markup[: end.start()] if end else markup
    for pattern in _REMOVED:
        text = pattern.sub("", text)
    text = _innermost_first(_INNERMOST_TEMPLATE, lambda found: "", text)
    text = _innermost_first(_INNERMOST_LINK, _label, text)
    text = html.unescape(_LEFT_OVER.sub("", _OUTSIDE_LINK.sub(r"\1", text))).replace("\xa0", " ")
    paragraphs = []
    for line in text.split("\n"):
        line = re.sub(r"\(\s*[,;]\s*", "(", line).replace("()", "")  # what templates stood in
        line = re.sub(r"\s+([,.;:)])", r"\1", re.sub(r"[ \t]+", " ", line)).strip()
        heading = re.fullmatch(r"=+\s*(.*?)\s*=+", line)
        if heading:
            paragraphs.append(heading[1])
        elif re.match(r"[\w\"'(]", line):  # prose; lists and table rows begin with a mark
            paragraphs.append(line)
    return "\n\n".join(paragraphs)


def _innermost_first(pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str) -> str:
    count = 1
    while count:
        text, count = pattern.subn(replace, text)
    return text


def _label(link: re.Match[str]) -> str:
    """What a reader sees of [[target|label]]; nothing of pictures and categories."""
    return "" if _NAMESPACE.match(link[1]) else link[1].rpartition("|")[2]
