import dataclasses
import json

import pytest
import torch

from gloam.data.town.config import WEATHER
from gloam.data.yaml_text import read_mapping
from gloam.errors import ModelError, UsageError
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.edges import create_detector
from gloam.training.config_changes import merge, override
from gloam.training.translators.config import (
    RECIPES,
    TranslatorConfig,
    fill_translator_config,
    read_translator_recipe,
    with_epochs,
)
from gloam.training.translators.data_config import DOMAIN_KINDS
from gloam.training.translators.trainers import TRAINERS
from gloam.training.typed_config import differences, recipes_of
from tests.training.translators.trainers.tiny import write_narrow_vgg19

# What makes a recipe's networks small without making them others.
NARROW = {
    "resnet": {"width": 4, "blocks": 3},
    "unet": {"width": 4, "levels": 5},
    "encoder_decoder": {"width": 4, "blocks": 1},
    "cyeda": {"width": 4},
    "patch": {"width": 4},
    "plain": {"width": 4},
    "weakly_paired": {"width": 2, "base": [2, 2], "latent": 3},
    "spade": {"width": 2, "base": [2, 2], "latent": 3},
    "ganimation": {"width": 4, "blocks": 1},
    "mduit": {"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]},
    "adain": {"stages": [[4, 1], [6, 1]]},
    "two_stream": {"width": 4},
    "star": {"width": 2},
}


@pytest.mark.parametrize("name", recipes_of(RECIPES))
def test_every_recipe_takes_a_step(name, tmp_path):
    config = read_translator_recipe(name)
    options = config.options
    changes = {
        "generator_options": {**options.generator_options, **NARROW[options.generator]},
        "discriminator_options": {**options.discriminator_options, **NARROW[options.discriminator]},
    }
    if options.discriminator == "plain":
        assert options.discriminator_options["size"] == config.data.size
    if config.trainer == "cut":
        changes["layers"] = tuple(layer for layer in options.layers if layer <= 12)  # the last are of further blocks
    if config.trainer == "hedgan":
        file = tmp_path / "detector.safetensors"
        save_checkpoint(file, create_detector(options.detector, width=2), {"recipe": "random"})
        changes["detector_weights"] = str(file)
    if config.trainer == "weakly_paired":
        changes["perceptual_weights"] = str(write_narrow_vgg19(tmp_path / "vgg19.pth"))
    if config.trainer == "mduit":
        changes["appearance_learned"] = True
    if config.trainer == "adain":
        changes["encoder_random"] = True
    torch.manual_seed(0)
    trainer = TRAINERS[config.trainer][0](dataclasses.replace(options, **changes))
    trainer.set_progress(options.epochs - 1)
    side = 128 if options.discriminator_options.get("layers", 3) > 3 else 64
    day, night = torch.rand(2, 2, options.channels, side, side) * 2 - 1
    many = config.data.kind in DOMAIN_KINDS
    losses = trainer.step_between(day, night, torch.tensor([[0, 1], [4, 2]])) if many else trainer.step(day, night)
    assert all(torch.isfinite(loss) for loss in losses.values())
    product = "embedder" if config.trainer == "mduit_content" else "translator" if many else "day2night"
    assert product in trainer.products()


@pytest.mark.parametrize("name", [name for name in recipes_of(RECIPES) if name.startswith("town")])
def test_recipes_of_the_town_are_small_and_bounded(name):
    config = read_translator_recipe(name)
    if config.data.kind in DOMAIN_KINDS:  # of the town's weather, on rendered files
        assert config.options.domains == WEATHER
        assert config.data.size in (64, 96)
        assert config.clock == "cpu"
        assert config.max_minutes <= 20
        return
    assert config.data.kind == "town"
    assert config.data.size == 128
    assert config.options.generator_options["width"] >= 32
    assert config.options.generator_options.get("blocks", config.options.generator_options.get("levels", 0)) >= 6
    assert config.clock == "cpu"
    assert config.max_minutes <= 15


def test_recipes_of_weak_pairs_change_what_they_are_named_after():
    whole = read_translator_recipe("weakly_paired")
    assert len(whole.options.domains) == 11
    assert (whole.options.feature_weight, whole.options.perceptual_weight, whole.options.class_weight) == (10, 10, 1)
    assert (whole.options.attention_weight, whole.options.smooth_weight) == (0.1, 1.0)
    assert (whole.options.beta1, whole.options.beta2, whole.batch, whole.options.epochs) == (0.0, 0.9, 8, 100)
    assert (whole.options.learning_rate, whole.options.discriminator_learning_rate) == (1e-4, 4e-4)
    ablations = {
        "no_gen_align": ("generator_options", {"base": [8, 8], "alignment": False}),
        "no_classify_loss": ("class_weight", 0.0),
        "no_mask": ("generator_options", {"base": [8, 8], "mask": False}),
        "stack_discr": ("discriminator_options", {"stack": True}),
    }
    for name, (option, value) in ablations.items():
        config = read_translator_recipe(f"weakly_paired_{name}")
        assert getattr(config.options, option) == value
        options = dataclasses.replace(config.options, **{option: getattr(whole.options, option)})
        assert dataclasses.replace(config, options=options) == whole
    assert read_translator_recipe("spade").options.perceptual_target


def test_recipes_of_mduit_follow_the_paper_and_change_what_they_are_named_after():
    whole = read_translator_recipe("mduit")
    options = whole.options
    weights = {
        name: getattr(options, f"{name}_weight") for name in ("self", "cycle", "content", "appearance", "contrast")
    }
    assert weights == {"self": 100, "cycle": 100, "content": 10, "appearance": 1, "contrast": 1}
    assert (options.adversarial_weight, options.match_weight, options.content_margin) == (1, 1, 0.1)
    assert (options.temperature, options.negatives, options.mined_negatives, options.place_positive) == (0.07, 16, 0, 0)
    assert (options.beta1, options.beta2, options.epochs, options.decay_epochs, whole.batch) == (0.5, 0.999, 50, 15, 1)
    assert (options.learning_rate, options.discriminator_learning_rate) == (2e-4, 2e-4)
    assert (len(options.domains), options.init, options.dimension) == (10, "normal", 256)
    without_nce = read_translator_recipe("mduit_no_nce")
    assert dataclasses.replace(without_nce, options=dataclasses.replace(without_nce.options, contrast="nce")) == whole
    content, neither = (read_translator_recipe(f"mduit_no_i2i{end}") for end in ("", "_no_nce"))
    assert content.trainer == neither.trainer == "mduit_content"
    assert (content.options.contrast, neither.options.contrast) == ("nce", "distance")
    assert content.data == neither.data == whole.data
    shared = {name: getattr(options, name) for name in vars(content.options)}
    assert shared == vars(content.options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"trainer": "mduit", "data": {"kind": "town"}},
            "trainer 'mduit' compares images of known domains, which data",
        ),
        ({"trainer": "mduit", "options": {"codes": [[1.0], [0.0]]}}, "takes no label; leave them out"),
        ({"trainer": "mduit", "options": {"generator": "resnet"}}, "must be 'mduit'"),
        ({"trainer": "mduit_content", "options": {"mined_negatives": 17}}, "must be 0 to negatives \\(16\\)"),
        ({"trainer": "mduit_content", "options": {"temperature": 0.0}}, "temperature 0.0: must be positive"),
        ({"trainer": "mduit", "options": {"channels": 1}}, "takes RGB images"),
        ({"trainer": "cyclegan", "data": {"kind": "domain_folders", "root": "x"}}, "takes two domains; data kind"),
        ({"trainer": "ganimation", "options": {"domains": ["a", "b", "c"]}}, "has two domains, the options 3; choose"),
        ({"trainer": "ganimation", "options": {"domains": ["a"]}}, "domains a: at least two are needed"),
        ({"trainer": "ganimation", "data": {"kind": "weak_pairs"}}, "needs its file as day"),
    ],
)
def test_domains_that_do_not_fit_are_refused(value, message):
    with pytest.raises(UsageError, match=message):
        fill_translator_config(value, "test")


def test_recipes_of_the_papers_follow_their_numbers():
    cyclegan, hedn = read_translator_recipe("cyclegan"), read_translator_recipe("hedngan")
    assert (cyclegan.options.epochs, cyclegan.data.images_per_epoch // cyclegan.batch) == (100, 10000)
    assert (hedn.options.epochs, hedn.data.images_per_epoch // hedn.batch) == (50, 1000)
    assert (cyclegan.options.identity_weight, hedn.options.edge_weight) == (0.0, 5.0)
    assert [read_translator_recipe(f"cyclegan_study_{n}").batch for n in range(1, 6)] == [32, 1, 1, 1, 1]
    assert read_translator_recipe("cyclegan_study_4").options.cycle_weight == 0
    assert [read_translator_recipe(f"cyclegan_study_{n}").data.shown_behind for n in (1, 4, 5)] == [
        (255, 255, 255), (255, 255, 255), None,
    ]  # fmt: skip
    study = [read_translator_recipe(f"cyclegan_study_{n}") for n in range(1, 6)]
    assert study[4].data.transform == "padded_study"
    assert all(recipe.score_all for recipe in study)
    assert [(recipe.data.test_day, recipe.data.test_night) for recipe in study[:4]] == [("testA", "testB")] * 4
    assert study[4].data.test_night == "$FASHION_MNIST/t10k-images-idx3-ubyte.gz"
    cyeda = read_translator_recipe("cyeda").options
    assert (cyeda.epochs, cyeda.decay_epochs) == (69, 34)


def test_the_sets_of_the_thesis_have_one_budget_of_steps():
    found = {name: read_translator_recipe(name) for name in recipes_of(RECIPES) if name.startswith("thesis_cyclegan")}
    steps = {name: item.options.epochs * item.data.images_per_epoch // item.batch for name, item in found.items()}
    assert set(steps.values()) == {450_000}
    epochs = {item.data.kind: item.options.epochs for item in found.values()}
    assert epochs == {"transient": 100, "aachen": 150, "robotcar": 200, "sfm": 150}
    assert found["thesis_cyclegan_sfm"].data.min_side == 512
    plain = found["thesis_cyclegan"].to_dict()
    for item in found.values():
        other = item.to_dict()
        assert {key for key in plain if key not in ("data", "options") and plain[key] != other[key]} == set()
        assert {key for key, value in plain["options"].items() if other["options"][key] != value} <= {
            "epochs", "normalise_weights",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"trainers": "cut"}, "unknown key 'trainers'; did you mean 'trainer'?"),
        ({"trainer": "cyclgan"}, "unknown trainer 'cyclgan'; did you mean 'cyclegan'?"),
        ({"options": {"cycle_wight": 1}}, "options: unknown key 'cycle_wight'; did you mean 'cycle_weight'?"),
        ({"trainer": "cut", "options": {"nce_weigth": 1}}, "did you mean 'nce_weight'?"),
        ({"data": {"seed": [1]}}, "data: unknown key 'seed'; did you mean 'seeds'?"),
        ({"options": {"epochs": "many"}}, "options: epochs: 'many' is not of type int"),
        ({"options": [1]}, "options: expected keys and values"),
        ({"options": {"epochs": 5}}, "decay_epochs 100: must be between 0 and epochs (5)"),
        ({"precision": "f16"}, "precision: 'f16' is none of '32', 'bf16', 'fp16', '64'"),
        ({"clock": "sun"}, "clock: 'sun' is none of"),
        ({"batch": 3, "processes": 2}, "batch 3 cannot be cut into 2 equal parts"),
        ({"max_minutes": 0}, "max_minutes 0.0: must be positive"),
        ({"save_every": 0}, "save_every 0: must be at least 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch 0: must be at least 1"),
        ({"trainer": "pix2pix"}, "trainer 'pix2pix' needs pairs; data kind 'town' has none"),
        ({"options": {"channels": 1}}, "channels: the options say 1, the data 3"),
        ({"data": {"kind": "twon"}}, "data kind 'twon': must be one of"),
    ],
)
def test_bad_values_are_named(value, message):
    with pytest.raises(UsageError) as caught:
        fill_translator_config(value, "file.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_survives_json_and_yaml(tmp_path):
    config = read_translator_recipe("town_cut")
    assert fill_translator_config(json.loads(json.dumps(config.to_dict())), "here") == config
    file = tmp_path / "c.yaml"
    file.write_text("precision: 32\noptions: {learning_rate: 1e-4}\nmax_minutes: 2\n")  # YAML reads 1e-4 as text
    read = fill_translator_config(read_mapping(file), str(file), config)
    assert (read.precision, read.options.learning_rate, read.max_minutes) == ("32", 1e-4, 2.0)
    assert read.options.layers == config.options.layers  # what the file does not say stays


def test_another_trainer_drops_the_options_of_the_first():
    config = read_translator_recipe("town_cyclegan", {"trainer": "cyeda"})
    assert config.options == TRAINERS["cyeda"][1]()
    with pytest.raises(UsageError, match=r"unknown recipe 'town_cyclgan'; choose one of .*town_cyclegan"):
        read_translator_recipe("town_cyclgan")
    with pytest.raises(UsageError, match="options are those of another trainer"):
        dataclasses.replace(TranslatorConfig(), trainer="cut")


def test_overrides():
    assert override(["data.root=/photos", "batch=2", "data.scale=[0.6, 1]"]) == {
        "data": {"root": "/photos", "scale": [0.6, 1]},
        "batch": 2,
    }
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    one, other = {"g": "unet", "g_options": {"levels": 6}}, {"g_options": {"width": 8}, "g": "resnet"}
    assert merge(one, other) == other
    assert merge(one, {"g": "unet", "g_options": {"width": 8}}) == {"g": "unet", "g_options": {"levels": 6, "width": 8}}
    for bad in ("batch", "=2", "a..b=1", "a=["):
        with pytest.raises(UsageError, match="--set"):
            override([bad])
    config = with_epochs(read_translator_recipe("cyclegan"), 10)
    assert (config.options.epochs, config.options.decay_epochs) == (10, 5)


def test_what_a_run_depends_on_is_its_identity(tmp_path):
    config = TranslatorConfig()
    same = dataclasses.replace(config, max_minutes=3.0, log_every=7, device="cpu", tensorboard=False, threads=1)
    assert config.identity() == same.identity()
    other = dataclasses.replace(config, options=dataclasses.replace(config.options, cycle_weight=1.0))
    assert list(differences(config.identity(), other.identity())) == [("options.cycle_weight", 10.0, 1.0)]
    hed = fill_translator_config({"trainer": "hedgan"}, "here")
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"weights")
    first, second = (
        dataclasses.replace(hed, options=dataclasses.replace(hed.options, detector_weights=str(file))).identity()
        for file in files
    )
    assert first == second  # a detector is what it holds, not where it lies


def test_a_missing_detector_is_one_line():
    with pytest.raises(UsageError, match="detector_weights is not set"):
        TRAINERS["hedgan"][0](read_translator_recipe("town_hedngan").options)
    options = read_translator_recipe("town_hedngan", {"options": {"detector_weights": "/nowhere.safetensors"}}).options
    with pytest.raises(ModelError, match=r"/nowhere\.safetensors"):
        TRAINERS["hedgan"][0](options)


def test_a_trainer_that_is_no_name_is_refused():
    for trainer in ([], {}, 3, None):
        with pytest.raises(UsageError, match="unknown trainer"):
            fill_translator_config({"trainer": trainer}, "a.yaml")


def test_aliases_of_yaml_are_read(tmp_path):
    (tmp_path / "two.yaml").write_bytes(b"\xef\xbb\xbfa: &one {b: 1}\nc: *one\nd:\n  <<: *one\n")
    assert read_mapping(tmp_path / "two.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}
    (tmp_path / "two.yaml").write_bytes(b"")
    assert read_mapping(tmp_path / "two.yaml") == {}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "{a: " * 5000,
        "- " * 5000,
        "a: " + "[" * 80 + "]" * 80,
        "a: !!int x",
        "a: 1\na: 2",
        "a: &a [*a]",
        "a: 2001-99-99",
        "? [a]\n: 1",
        "a: \x1b",
        "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'lol'] * 9)}]" for n in range(9)),
        "a: " + "x" * (1 << 20),
    ],
)
def test_a_file_that_yaml_cannot_hold_is_one_line(tmp_path, text):
    (tmp_path / "deep.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"deep\.yaml: not readable as YAML") as error:
        read_mapping(tmp_path / "deep.yaml")
    assert "\n" not in str(error.value)
