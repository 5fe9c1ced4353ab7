import numpy as np
import pytest
import torch

from gloam.errors import ModelError, StoreError, UsageError
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.translators import create_generator
from gloam.padding import reflect_to
from gloam.runtime.models.formulas import create_classic
from gloam.training.embedders.night_rule import NightRule, name_fraction
from gloam.training.embedders.nights import NightCache, TorchTranslator, open_night_maker

ALL = ("anchor", "positive", "negative")
NAMES = [f"place/{number:05d}.jpg" for number in range(4000)]


@pytest.mark.parametrize(
    ("name", "fraction", "night"),
    [
        ("015bb8aa57c3fbebc41daca6a093f639", 0x2BB9 / 65536, True),
        ("3fb7b4f3c9560312f1e36f00a7abb38a", 0xB124 / 65536, False),
        ("0030a526c20a135a33e93d0d495f6737", 0xBC8F / 65536, False),
        ("d543f7828509ebc931c80134b818fd81", 0x9184 / 65536, False),
    ],
)
def test_the_hash_of_the_reference(name, fraction, night):
    assert name_fraction(name) == fraction
    assert name_fraction(f"39/f6/93/{name}.jpg") == fraction
    assert NightRule("deterministic").of_images([name], "anchor", 5, 3).tolist() == [night]


def test_deterministic_nights_are_the_same_in_every_epoch_and_seed():
    rule = NightRule("deterministic", 0.25)
    first = rule.of_images(NAMES, "anchor", 0, 1)
    assert np.array_equal(first, rule.of_images(NAMES, "anchor", 9, 7))
    assert abs(first.mean() - 0.25) < 0.03
    assert rule.in_validation() == rule


def test_nights_per_epoch_are_drawn_anew_and_shared_by_mining_and_training():
    rule = NightRule("per_epoch", 0.5)
    first, second = (rule.of_images(NAMES, "anchor", 0, epoch) for epoch in (1, 2))
    assert abs((first & second).mean() - 0.25) < 0.03
    tuples = np.stack([np.arange(100), np.arange(100, 200), np.arange(200, 300)], axis=1)
    night = rule.of_tuples(NAMES, tuples, 0, 1)
    assert np.array_equal(night[:, 0], first[:100])
    assert not night[:, 1:].any()
    assert rule.in_validation() == NightRule("deterministic", 0.5)


def test_nights_per_image_are_drawn_for_each_of_the_seven_and_unseen_by_mining():
    rule = NightRule("per_image", 0.15, ALL)
    tuples = np.tile(np.arange(7), (4000, 1))
    night = rule.of_tuples(NAMES, tuples, 0, 1)
    assert (abs(night.mean(axis=0) - 0.15) < 0.02).all()
    assert abs(np.corrcoef(night.T) - np.eye(7)).max() < 0.06
    assert not rule.of_images(NAMES, "anchor", 0, 1).any()
    assert not np.array_equal(night, rule.of_tuples(NAMES, tuples, 0, 2))
    assert np.array_equal(night, rule.of_tuples(NAMES, tuples, 0, 1))


@pytest.mark.parametrize("mode", ["deterministic", "per_epoch", "per_image"])
@pytest.mark.parametrize("role", ALL)
def test_only_the_chosen_roles_are_made_night(mode, role):
    night = NightRule(mode, 0.5, (role,)).of_tuples(NAMES, np.arange(3500).reshape(500, 7), 0, 1)
    columns = {"anchor": [0], "positive": [1], "negative": [2, 3, 4, 5, 6]}[role]
    assert abs(night[:, columns].mean() - 0.5) < 0.1
    assert not np.delete(night, columns, axis=1).any()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("mode", ["none", "deterministic", "per_epoch", "per_image"])
def test_the_ends_of_the_share_are_none_and_all(mode, share, expected):
    night = NightRule(mode, share, ALL).of_tuples(NAMES, np.arange(70).reshape(10, 7), 0, 1)
    assert night.mean() == (0.0 if mode == "none" else expected)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_no_probability_is_refused(share):
    with pytest.raises(UsageError, match="is a probability; give a number from 0 to 1"):
        NightRule("per_image", share)


@pytest.mark.parametrize("roles", [(), ("query",), ("anchor", "anchor")])
def test_unknown_roles_are_refused(roles):
    with pytest.raises(UsageError, match="give one or more of anchor, positive, negative"):
        NightRule("per_image", 0.5, roles)


def images(count=5, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (20 + row, 31, 3), dtype=np.uint8) for row in range(count)]


class Counting:
    """Lab inversion that counts what it is asked for."""

    def __init__(self):
        self.inner, self.seen = create_classic("lab-inversion"), 0
        self.name, self.fingerprint, self.batch_size = "counting", self.inner.fingerprint, 2
        self.backend = self.inner.backend

    def check(self, image):
        pass

    def __call__(self, given):
        self.seen += len(given)
        return self.inner(given)


def test_nights_are_made_once_and_kept_bit_for_bit(tmp_path):
    maker = Counting()
    first = NightCache(maker, tmp_path)(images())
    again = NightCache(maker, tmp_path)(images())
    assert maker.seen == 5
    for made, kept, day in zip(first, again, images(), strict=True):
        assert np.array_equal(made, kept)
        assert np.array_equal(made, create_classic("lab-inversion")([day])[0])
    NightCache(create_classic("gamma"), tmp_path)(images())  # another maker has its own folder
    assert len(list(tmp_path.iterdir())) == 2
    assert NightCache(maker)(images())[0].shape == (20, 31, 3)
    assert maker.seen == 10


def test_a_damaged_night_is_named(tmp_path):
    NightCache(Counting(), tmp_path)(images(1))
    file = next(tmp_path.rglob("*.png"))
    file.write_bytes(b"no image")
    with pytest.raises(StoreError, match="not readable as an image"):
        NightCache(Counting(), tmp_path)(images(1))


def test_a_checkpoint_makes_the_nights_of_its_network(tmp_path):
    torch.manual_seed(0)
    model = create_generator("unet", levels=3, width=4, norm="instance")
    save_checkpoint(tmp_path / "night.safetensors", model, {})
    maker = open_night_maker(tmp_path / "night.safetensors")
    assert isinstance(maker, TorchTranslator)
    given = [np.full((16, 24, 3), 90, np.uint8), *images(3), np.zeros((1, 1, 3), np.uint8)]
    made = maker(given)
    assert [night.shape for night in made] == [image.shape for image in given]
    with torch.no_grad():
        plain = model.eval().translate_uint8(torch.from_numpy(given[0][None]))[0].numpy()
    assert np.array_equal(made[0], np.rint((plain + 1) * 127.5).clip(0, 255).astype(np.uint8))  # nothing to pad
    maker.batch_size = 16
    for batched, single in zip(maker(given), made, strict=True):
        assert np.abs(batched.astype(int) - single).max() <= 1
    other = create_generator("unet", levels=3, width=4, norm="instance")
    assert TorchTranslator(other, "b").fingerprint != maker.fingerprint


def test_controls_have_names_and_unknown_ones_are_refused():
    assert open_night_maker("lab-inversion").name == "lab-inversion"
    assert open_night_maker("gamma:0.2").name == "gamma"
    with pytest.raises(UsageError, match="did you mean lab-inversion"):
        open_night_maker("lab-inverson")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The folder of a run of a generator of three domains, and the generator."""
    torch.manual_seed(0)
    options = {"width": 2, "base": [1, 1], "latent": 3, "target": "snow"}
    model = create_generator("weakly_paired", domains=["day", "night", "snow"], **options).eval()
    with torch.no_grad():
        model.head_mask.weight.zero_()  # half of each picture is colours, which follow code and noise
        for layer in (model.fc, model.head_color):
            layer.weight.normal_()
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder / "translator.safetensors", model, {})
    return folder, model


def test_a_run_of_many_domains_makes_nights_by_its_folder_and_a_domain(many):
    folder, model = many
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    night, snow, own = (open_night_maker(folder, domain=name)([image])[0] for name in ("night", "snow", None))
    assert np.array_equal(snow, own)
    assert not np.array_equal(snow, night)
    with torch.no_grad():
        label = model.label(torch.tensor([1]), torch.zeros(()))
        wanted = model.translate_uint8(torch.from_numpy(image)[None], label)[0].numpy()
    assert np.abs(night - (wanted + 1) * 127.5).max() <= 0.51
    assert open_night_maker(folder, domain="night").name == f"{folder} to night"
    with pytest.raises(ModelError, match="unknown domain 'rain'; the model knows day, night, snow"):
        open_night_maker(folder, domain="rain")


def test_the_noise_of_a_night_is_the_seeds_and_the_images(many):
    folder, _ = many
    given = images(4)
    drawn = open_night_maker(folder, domain="night", noise=3)
    made = drawn(given)
    drawn.batch_size = 4
    for row, (together, alone) in enumerate(zip(drawn(given[::-1])[::-1], made, strict=True)):
        assert np.abs(together.astype(int) - alone).max() <= 1, row
    others = [open_night_maker(folder, domain="night", noise=noise) for noise in (4, None)]
    assert not any(np.array_equal(made[0], other(given)[0]) for other in others)
    assert len({maker.fingerprint for maker in (drawn, *others, open_night_maker(folder))}) == 4


def test_a_maker_without_noise_or_domains(tmp_path):
    torch.manual_seed(0)
    one = create_generator("unet", levels=3, width=4, norm="instance")
    save_checkpoint(tmp_path / "one.safetensors", one, {})
    quiet, drawn = (open_night_maker(tmp_path / "one.safetensors", noise=noise) for noise in (None, 5))
    assert quiet.fingerprint == drawn.fingerprint  # nothing is drawn
    with pytest.raises(ModelError, match="unet translates into one domain alone; leave out 'night'"):
        open_night_maker(tmp_path / "one.safetensors", domain="night")
    with pytest.raises(UsageError, match="a formula has no domains"):
        open_night_maker("gamma", domain="night")
    assert open_night_maker("gamma", noise=5).name == "gamma"


def test_filters_that_a_network_keeps_of_its_domains_make_nights_by_their_names(tmp_path):
    torch.manual_seed(0)
    model = create_generator("mduit", domains=["day", "night"], width=2, blocks=1, stages=[[2, 1], [2, 1], [2, 1]])
    model.keep(torch.randn(2, 25 * model.dimension))
    save_checkpoint(tmp_path / "translator.safetensors", model, {})
    day, night = (open_night_maker(tmp_path, domain=name) for name in ("day", "night"))
    assert day.domains == ("day", "night")
    image = images(1)[0]
    assert not np.array_equal(day([image])[0], night([image])[0])
    assert np.array_equal(day.towards("night")([image])[0], night([image])[0])
    assert day.masks([image]) is None
    with pytest.raises(ModelError, match="unknown domain 'snow'; the model knows day, night"):
        open_night_maker(tmp_path, domain="snow")


def test_the_strides_of_a_generator_begin_where_its_own_code_has_them():
    """A picture of 362 px: the public code hands it to the network as it is, which rounds its sides up to 364."""
    torch.manual_seed(0)
    model = create_generator("resnet", width=4, blocks=1, norm="batch").eval()
    image = np.random.default_rng(0).integers(0, 256, (362, 270, 3), dtype=np.uint8)
    with torch.no_grad():
        whole = model.translate_uint8(torch.from_numpy(image[None]))[0].numpy()
        halves = model.translate_uint8(torch.from_numpy(reflect_to(image, (364, 272))[0].copy()[None]))[0].numpy()
    assert whole.shape == (364, 272, 3)
    expected = np.rint((whole[:362, :270] + 1) * 127.5).astype(int)
    found = TorchTranslator(model, "night")([image])[0].astype(int)
    inside = np.s_[:320, :230]  # from further right and bottom the network sees its padding
    assert np.abs(found[inside] - expected[inside]).max() <= 1
    shifted = np.rint((halves[1:363, 1:271] + 1) * 127.5).astype(int)
    assert np.abs(shifted[inside] - expected[inside]).mean() > 10 * np.abs(found - expected).mean()


def test_nights_of_another_place_of_the_padding_are_others(monkeypatch):
    model = create_generator("resnet", width=4, blocks=1)
    own = TorchTranslator(model, "a").fingerprint
    monkeypatch.setattr(type(model), "anchor", "center")
    assert TorchTranslator(model, "a").fingerprint != own
