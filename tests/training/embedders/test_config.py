import pytest

from gloam.errors import UsageError
from gloam.networks.embedders import EMBEDDERS
from gloam.training.embedders.config import RECIPES, MetricConfig, fill_metric_config, read_metric_recipe, rooted
from gloam.training.typed_config import recipes_of

STREETS = {"kind": "town", "seeds": [5, 6]}


@pytest.mark.parametrize("name", recipes_of(RECIPES["metric"]))
def test_every_recipe_is_whole(name):
    config = read_metric_recipe(name)
    assert config.network in EMBEDDERS
    assert config.data.train["kind"]
    assert config.data.validation["kind"]
    assert fill_metric_config(config.to_dict(), "back") == config
    assert (config.real_share > 0) == (config.data.real is not None)
    if config.night.active and not name.startswith("town"):
        assert config.maker is not None


@pytest.mark.parametrize("name", recipes_of(RECIPES["embedder"]))
def test_recipes_of_streets_of_all_hours_are_whole(name):
    config = read_metric_recipe(name, kind="embedder")
    assert config.network in EMBEDDERS
    assert config.negatives_from == "batch"
    assert fill_metric_config(config.to_dict(), "back") == config


def test_another_network_has_its_own_options():
    assert read_metric_recipe("town_day", {"network": "gem_vgg16"}).network_options == {}
    assert read_metric_recipe("town_day", {"network": "gem_resnet18"}).network_options == {"width": 16}


def test_recipes_of_the_papers_follow_their_numbers():
    vgg, deep = read_metric_recipe("vgg16_hedngan_cd"), read_metric_recipe("r101_hedngan_cd")
    assert (vgg.margin, deep.margin) == (0.75, 0.85)
    for config in (vgg, deep):
        assert (config.learning_rate, config.weight_decay, config.learning_rate_decay) == (5e-7, 5e-4, 0.99)
        assert (config.epochs, config.tuples, config.batch, config.negatives) == (40, 2000, 5, 5)
        assert (config.anchors, config.anchor_pool, config.negative_pool) == ("diverse", 10000, 22000)
        assert (config.night.mode, config.night.share, config.night.roles) == ("deterministic", 0.25, ("anchor",))
        assert (config.photometric, config.clahe_clip, config.clahe_grid) == ("clahe", 1.0, 8)
    thesis = read_metric_recipe("thesis_cyclegan_sfm").night
    assert (thesis.mode, thesis.share, len(thesis.roles)) == ("per_image", 0.15, 3)
    how = read_metric_recipe("how_r18_cyclegan_cd")
    assert (how.margin, how.learning_rate, how.weight_decay, how.image_side) == (0.8, 5e-6, 1e-4, 1024)


@pytest.mark.parametrize(("name", "part"), [("vgg16_cyclegan_nd_cd", 0.125), ("vgg16_cyclegan_nd50_cd", 0.25)])
def test_real_and_made_nights_are_mixed_one_to_one(name: str, part: float) -> None:
    config = read_metric_recipe(name)
    made = (1 - config.real_share) * config.night.share  # a night is made of an anchor by day alone
    assert (config.real_share, made) == (part, pytest.approx(part, abs=1e-6))


def test_inverted_lightness_is_compared_with_plain_gem() -> None:
    lab, plain = read_metric_recipe("vgg16_lab").to_dict(), read_metric_recipe("vgg16_gem").to_dict()
    assert {key for key in lab if lab[key] != plain[key]} == {"maker", "night"}
    assert lab["photometric"] == "none"


def test_edges_are_described_as_the_papers_table_has_it() -> None:
    plain = read_metric_recipe("vgg16_gem").to_dict()
    for name, network, detector in (
        ("vgg16_hedmac", "hedmac_vgg16", "hed_bsds500"),
        ("vgg16_hedn_mac", "hedmac_vgg16", "hedngan_student"),
        ("vgg16_rcfn_mac", "rcfmac_vgg16", "rcfngan_student"),
    ):
        found = read_metric_recipe(name)
        assert (found.network, found.image_side) == (network, 362)
        assert found.detector_weights == f"{{root}}/networks/{detector}.safetensors"
        assert found.weights == plain["weights"]  # of ImageNet
        other = found.to_dict()
        assert {key for key in plain if plain[key] != other[key]} == {"network", "detector_weights"}


def test_recipes_of_the_town_differ_only_in_what_they_are_named_for():
    plain = read_metric_recipe("town_clahe").to_dict()
    for name, changed in {
        "town_day": {"photometric"},
        "town_lab": {"maker", "night"},
        "town_night25": {"night"},
        "town_night50": {"night"},
        "town_diverse": {"night", "anchors"},
    }.items():
        other = read_metric_recipe(name).to_dict()
        assert {key for key in plain if plain[key] != other[key]} == changed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tuple": 3}, "did you mean 'tuples'"),
        ({"night": {"share": -0.15}}, "night share -0.15: is a probability"),
        ({"night": {"mode": "always"}}, "none of 'none'"),
        ({"real_share": 1.2}, "real_share 1.2"),
        ({"margin": 0}, "margin 0"),
        ({"loss": "quadruplet"}, "none of 'contrastive', 'triplet'"),
        ({"batch": 0}, "batch 0: must be at least 1"),
        ({"diverse_window": [0.8, 0.2]}, "diverse_window"),
        ({"query_condition": "night"}, "give both, or neither"),
        ({"negatives_from": "batches"}, "none of 'pool', 'batch'"),
        ({"negatives_from": "batch", "batch_places": 5}, "batch_places 5: 5 negatives need more places than that"),
        ({"negatives_from": "batch", "images_per_place": 1}, "images_per_place 1: must be at least 2"),
        ({"negatives_from": "batch", "real_share": 0.5}, "need negatives_from pool"),
        ({"negatives_from": "batch", "night": {"mode": "per_epoch", "share": 0.5}}, "need negatives_from pool"),
        ({"data": {"train": STREETS, "validation": STREETS}}, "validation seed 5 is a training street"),
        ({"data": {"train": STREETS, "reserved_seeds": [6]}}, "street seed 6 is reserved for testing"),
    ],
)
def test_values_that_cannot_be_trained_are_refused(values, message):
    with pytest.raises(UsageError, match=message) as raised:
        fill_metric_config(values, "here")
    assert "\n" not in str(raised.value)


def test_root_stands_for_the_data_folder():
    assert rooted({"a": ["{root}/x", 3], "b": "y"}, "/data") == {"a": ["/data/x", 3], "b": "y"}
    with pytest.raises(UsageError, match="--data DIR"):
        rooted("{root}/x", None)
    assert MetricConfig().trajectory() == MetricConfig(epochs=3, workers=0, max_minutes=2.0).trajectory()
    pool = MetricConfig().trajectory()
    assert "images_per_place" not in pool  # nothing of it depends on that
    assert MetricConfig(negatives_from="batch").trajectory()["images_per_place"] == 4
    assert "loss" not in pool  # runs of before there was another carry on
    assert MetricConfig(loss="triplet").trajectory()["loss"] == "triplet"
    assert MetricConfig(detector_weights="a").trajectory() == pool  # the weights' hash says it
