"""docs/figures/imports.svg comes from the imports themselves."""

import importlib.util
from xml.etree import ElementTree

import pytest
from test_layering import ROOMS, ROOT


@pytest.fixture
def picture():
    spec = importlib.util.spec_from_file_location("imports_picture", ROOT / "docs/make_imports_picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_room_stands_in_it_and_no_arrow_points_up(picture):
    rooms, found = picture.arrows()
    folders = {path.name for path in (ROOT / "hybridattn").iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(rooms) <= {*ROOMS, picture.GROUND}
    height = {room: i for i, room in enumerate(rooms)}
    assert ("cli", "pipeline") in found and ("model", "formats") in found
    assert all(height[source] < height[target] for source, target in found)
    tree = ElementTree.fromstring(picture.draw())
    assert len(tree.findall("{*}path")) == len(found) and len(tree.findall("{*}rect")) == len(rooms)


def test_an_arrow_up_is_refused(picture, monkeypatch):
    monkeypatch.setattr(
        picture, "python_modules", lambda: {"model.base": "from ..cli import main", "cli": ""}
    )
    with pytest.raises(SystemExit, match="'model', 'cli'"):
        picture.arrows()
