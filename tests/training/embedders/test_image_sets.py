import pytest

from gloam.errors import StoreError, UsageError
from gloam.training.embedders.image_sets import open_set, origin_of
from tests.training.embedders.synthetic import pattern_views

SOURCE = {
    "kind": "town",
    "seeds": [901, 902],
    "places": 2,
    "views_per_place": 2,
    "conditions": ["day", "night"],
    "size": [64, 48],
}
RENDERER = "gloam.data.retrieval_sets.streets.render_training_views"


def test_rendered_streets_are_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(RENDERER, pattern_views)
    said = []
    first = open_set(SOURCE, tmp_path, said.append)
    assert said == ["rendering streets [901, 902]"]
    monkeypatch.setattr(RENDERER, lambda *_: pytest.fail("rendered again"))
    again = open_set(SOURCE, tmp_path, said.append)
    assert len(said) == 1
    assert again.identity() == first.identity()
    assert again.conditions == first.conditions == ("day", "night") * 4
    assert again.clusters.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # labels of different streets differ
    assert again.image(3).shape == (48, 64, 3)


def test_other_sources_are_other_files(tmp_path, monkeypatch):
    monkeypatch.setattr(RENDERER, pattern_views)
    for source in (SOURCE, {**SOURCE, "seeds": [903]}, {**SOURCE, "size": [32, 24]}):
        open_set(source, tmp_path)
    assert len(list(tmp_path.glob("views-*.npz"))) == 3
    open_set(SOURCE)  # no folder: nothing is kept


def test_a_broken_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(RENDERER, pattern_views)
    open_set(SOURCE, tmp_path)
    file = next(tmp_path.glob("views-*.npz"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(StoreError, match=r"views-\w+\.npz: not readable"):
        open_set(SOURCE, tmp_path)


def test_a_real_street_is_rendered_under_its_conditions(tmp_path):
    found = open_set({**SOURCE, "seeds": [901], "places": 3}, tmp_path)
    brightness = [image.mean() for image in found.pixels]
    assert all(day > 1.2 * night for day, night in zip(brightness[::2], brightness[1::2], strict=True))


def test_kinds_are_those_of_retrieval_sets_and_streets_have_an_origin():
    with pytest.raises(UsageError, match="unknown kind of retrieval set 'twon'"):
        open_set({"kind": "twon"})
    assert origin_of(SOURCE) == {"data": "procedural streets 901, 902", "licence": "Apache-2.0"}
    assert origin_of({"kind": "json", "path": "set.json"}) is None
    assert origin_of({"kind": "town", "folder": "town"}) is None
