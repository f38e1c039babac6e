"""MediaWiki markup to plain text."""

import io

import pytest

from hybridattn.data import wikitext


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("An [[apple tree|apple]] is a [[fruit]].", "An apple is a fruit."),
        ("{{Infox|a={{b|{{c}}}}}}It is '''red''' or ''green''.", "It is red or green."),
        ("Old<ref name=x>See [[y]].</ref> and<ref name=x/> new.", "Old and new."),
        ("[[File:a.jpg|thumb|a [[cat]] here]]Cats.\n[[Category:Animals]]", "Cats."),
        ("One.\n\n{| class=x\n|-\n| a {| b |} || c\n|}\n== Form ==\nTwo.", "One.\n\nForm\n\nTwo."),
        ("Text.\n* an entry\n# another\n: and more\n", "Text."),
        ("Text.\n== See also ==\n* [[Pear]]\nMore.", "Text."),
        ("AT&amp;T&nbsp;is [http://a.org a site] <!-- so\n--><br />here.", "AT&T is a site here."),
        ("A name ({{lang|x}}) , and so on.", "A name, and so on."),
        ("Lincoln ({{IPA|x}}; born 1809)", "Lincoln (born 1809)"),
        ("<math>x^2</math>\n'''Émile''' wrote.\n\"Yes\", he said.", 'Émile wrote.\n\n"Yes", he said.'),
        ("", ""),
    ],
)
def test_plain(markup, text):
    assert wikitext.plain(markup) == text


def test_articles_of_an_export():
    def page(title, text, space="0", more=""):
        body = f"<revision><text>{text}</text></revision>"
        return f"<page><title>{title}</title><ns>{space}</ns>{more}{body}</page>"

    pages = [page("A", "[[b|B]]."), page("C", "#REDIRECT", more="<redirect title='A'/>"), page("T", "x", "1")]
    export = f'<mediawiki xmlns="http://x/">{"".join(pages)}{page("D", "")}</mediawiki>'
    assert list(wikitext.articles(io.BytesIO(export.encode()))) == [("A", "B."), ("D", "")]
