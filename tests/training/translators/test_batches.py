import gzip
import json
import struct

import cv2
import numpy as np
import pytest
import torch

from gloam.errors import DataError, UsageError
from gloam.record import fill_dataclass
from gloam.training.translators.batches import DataConfig, open_batches
from gloam.training.translators.image_banks import hold_out, hold_out_pairs

SMALL = {"size": 32, "seeds": (901, 902), "views": 3, "held_out_seed": 903, "held_out_views": 2}


@pytest.fixture
def folders(tmp_path):
    """Two cameras with day and night images, each of one grey that tells it apart."""
    tone = 0
    for camera in ("cam1", "cam2"):
        for domain in ("day", "night"):
            for index in range(5):
                tone += 10
                path = tmp_path / camera / domain / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((40, 50, 3), tone, np.uint8))
    return tmp_path


def draws(batches, steps=30):
    return [name for step in range(steps) for name in batches.batch(step)[2]]


def test_a_batch_is_a_function_of_seed_and_step(folders):
    config = DataConfig(kind="folders", root=str(folders), size=32, flip=True)
    one, other = open_batches(config, 4, 1), open_batches(config, 4, 1)
    late = other.batch(7)
    for step in (3, 7, 0):
        day, night, names = one.batch(step)
        assert day.shape == night.shape == (4, 3, 32, 32)
        assert day.dtype == torch.float32
        assert len(names) == 8
        if step == 7:
            assert torch.equal(day, late[0])
            assert torch.equal(night, late[1])
            assert names == late[2]
    assert draws(one) != draws(open_batches(config, 4, 2))


def test_images_are_those_of_the_names(folders):
    batches = open_batches(DataConfig(kind="folders", root=str(folders), size=32), 3, 0)
    day, night, names = batches.batch(5)
    for image, name in zip([*day, *night], names, strict=True):
        expected = cv2.imread(str(folders / name))[0, 0, 0] / 127.5 - 1
        assert torch.allclose(image, torch.full_like(image, expected), atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_cut_the_same_global_batch(folders, workers):
    batches = open_batches(DataConfig(kind="folders", root=str(folders), size=32, workers=workers), 4, 0)
    whole = open_batches(DataConfig(kind="folders", root=str(folders), size=32), 4, 0)
    for step in range(3):
        day, night, names = whole.batch(step)
        parts = [batches.batch(step, rank, 2) for rank in (0, 1)]
        assert torch.equal(torch.cat([part[0] for part in parts]), day)
        assert torch.equal(torch.cat([part[1] for part in parts]), night)
        assert parts[0][2] + parts[1][2] == [names[i] for i in (0, 1, 4, 5, 2, 3, 6, 7)]
    with pytest.raises(UsageError, match="3 equal parts"):
        batches.batch(0, 0, 3)


def test_the_cache_changes_nothing(folders):
    kept = open_batches(DataConfig(kind="folders", root=str(folders), size=32), 4, 0)
    never = open_batches(DataConfig(kind="folders", root=str(folders), size=32, cache_mb=0), 4, 0)
    for step in range(4):
        assert torch.equal(kept.batch(step)[0], never.batch(step)[0])


def test_held_out_images_are_never_drawn(folders):
    batches = open_batches(DataConfig(kind="folders", root=str(folders), size=32, held_out_share=0.3), 4, 0)
    day, night = batches.held_out(99)
    assert day.shape == night.shape == (3, 3, 32, 32)
    tones = {round(float((value + 1) * 127.5)) for value in day[:, 0, 0, 0]}
    drawn = {cv2.imread(str(folders / name))[0, 0, 0] for name in draws(batches)}
    assert len(drawn) == 14
    assert not tones & drawn
    groups = DataConfig(kind="folders", root=str(folders), size=32, held_out_groups=("cam2",))
    batches = open_batches(groups, 4, 0)
    assert {name.split("/")[0] for name in draws(batches)} == {"cam1"}
    assert len(batches.held_out(99)[0]) == 5
    (folders / "notes").mkdir()
    (folders / "notes" / "readme.txt").write_text("no camera")
    lines: list[str] = []
    assert len(open_batches(groups, 4, 0, say=lines.append).held_out(99)[0]) == 5
    assert lines == [f"{folders}: left out: 1 x not an image"]
    none = open_batches(DataConfig(kind="folders", root=str(folders), size=32, held_out_share=0.0), 4, 0)
    with pytest.raises(UsageError, match="no images are held out"):
        none.held_out(1)


def test_pairs_stay_pairs_and_share_their_crop(folders):
    for camera in ("cam1", "cam2"):
        for index in range(5):
            image = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
            for domain in ("day", "night"):
                cv2.imwrite(str(folders / camera / domain / f"{index}.png"), image)
    rows = "".join(f"cam{c}/day/{i}.png,cam{c}/night/{i}.png\n" for c in (1, 2) for i in range(5))
    (folders / "pairs.csv").write_text("day,night\n" + rows)
    for transform in ("scalecrop", "cyclegan"):
        config = DataConfig(kind="paired_csv", day=str(folders / "pairs.csv"), size=32, transform=transform)
        batches = open_batches(config, 4, 0)
        day, night, names = batches.batch(0)
        assert torch.equal(day, night)
        assert [name.replace("day", "night") for name in names[:4]] == names[4:]
        assert torch.equal(*batches.held_out(1))


def test_pairs_that_share_images_are_held_out_together():
    pairs = np.array([(0, 0), (0, 1), (1, 1), (2, 2), (3, 3), (3, 4)])
    for share in (0.1, 0.5, 0.9):
        kept, apart = hold_out_pairs(pairs, [f"d{i}" for i in range(4)], share)
        assert len(kept) + len(apart) == 6
        assert len(kept) > 0
        assert len(apart) > 0
        for side in (0, 1):
            assert not set(kept[:, side]) & set(apart[:, side])
    with pytest.raises(DataError, match="all pairs share"):
        hold_out_pairs(pairs[:3], ["a", "b"], 0.1)


def test_added_images_move_few_others():
    names = [f"image{index}" for index in range(200)]
    apart = {names[row] for row in hold_out(names, 0.1)[1]}
    more = {[*names, "new"][row] for row in hold_out([*names, "new"], 0.1)[1]}
    assert len(apart) == 20
    assert len(apart - more) <= 1


def test_bad_images_are_found_before_training(folders):
    (folders / "cam1" / "day" / "9.jpg").write_bytes(b"no photograph")
    with pytest.raises(DataError, match=r"1 images cannot be used: cam1/day/9.jpg: not an image"):
        open_batches(DataConfig(kind="folders", root=str(folders), size=32), 1, 0)
    (folders / "cam1" / "day" / "9.jpg").unlink()
    with pytest.raises(DataError, match=r"20 images .*shorter side of 64 px; .* and 15 more"):
        open_batches(DataConfig(kind="folders", root=str(folders), size=64), 1, 0)


def test_images_of_several_shapes_need_a_transform_that_evens_them(folders):
    cv2.imwrite(str(folders / "cam1" / "day" / "0.png"), np.zeros((40, 90, 3), np.uint8))
    config = DataConfig(kind="folders", root=str(folders), size=32, transform="shorter")
    with pytest.raises(DataError, match="differ in shape"):
        draws(open_batches(config, 8, 0))


def test_idx_files_give_one_channel(tmp_path):
    for name, tone in (("digits", 200), ("clothes.gz", 100)):
        content = struct.pack(">BBBBIII", 0, 0, 8, 3, 40, 28, 28) + bytes([tone]) * (40 * 28 * 28)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    config = DataConfig(
        kind="idx", day=str(tmp_path / "digits"), night=str(tmp_path / "clothes.gz"),
        transform="pad", size=32, channels=1,
    )  # fmt: skip
    batches = open_batches(config, 5, 0)
    day, _, names = batches.batch(0)
    assert day.shape == (5, 1, 32, 32)
    assert day[0, 0, 16, 16] == pytest.approx(200 / 127.5 - 1)
    assert day[0, 0, 0, 0] == -1
    assert names[0].startswith("digits[")
    assert batches.held_out(2)[1].shape == (2, 1, 32, 32)
    assert batches.steps_per_epoch == 38 // 5


def test_the_town_renders_once_and_keeps_streets_apart(tmp_path, monkeypatch):
    first = open_batches(DataConfig(**SMALL), 2, 0, tmp_path)
    monkeypatch.setattr("gloam.training.translators.image_banks.render_unpaired", None)
    again = open_batches(DataConfig(**SMALL), 2, 0, tmp_path)
    assert torch.equal(first.batch(1)[0], again.batch(1)[0])
    assert json.loads(json.dumps(first.identity)) == again.identity
    assert {name.split("/")[0] for name in draws(first, 10)} == {"street901", "street902"}
    day, night = first.held_out(8)
    assert day.shape == (2, 3, 32, 32)
    assert day.mean() > night.mean() + 0.2
    with pytest.raises(TypeError):  # other views would be rendered
        open_batches(DataConfig(**{**SMALL, "views": 4}), 2, 0, tmp_path)


@pytest.mark.slow
def test_streets_of_the_second_look_are_others_and_are_kept_apart(tmp_path, monkeypatch):
    first = open_batches(DataConfig(**SMALL), 2, 0, tmp_path)
    second = open_batches(DataConfig(**SMALL, look=2), 2, 0, tmp_path)
    assert draws(first, 3) == draws(second, 3)
    assert not torch.equal(first.batch(0)[0], second.batch(0)[0])
    monkeypatch.setattr("gloam.training.translators.image_banks.render_unpaired", None)
    assert torch.equal(open_batches(DataConfig(**SMALL, look=2), 2, 0, tmp_path).batch(0)[0], second.batch(0)[0])
    with pytest.raises(UsageError, match="look 3: choose from 1, 2"):
        DataConfig(**SMALL, look=3)


def test_paired_streets_show_the_same_view():
    batches = open_batches(DataConfig(kind="town_paired", **SMALL), 4, 0)
    for step in range(3):
        names = batches.batch(step)[2]
        assert [name.replace("day", "night") for name in names[:4]] == names[4:]


def test_the_plain_phase_begins_where_the_recipe_says(folders):
    config = DataConfig(kind="folders", root=str(folders), size=32, plain_from_epoch=1)
    batches = open_batches(config, 3, 0)
    usual = open_batches(DataConfig(kind="folders", root=str(folders), size=32), 3, 0)
    assert batches.steps_per_epoch == 3
    assert torch.equal(batches.batch(2)[0], usual.batch(2)[0])
    assert batches.batch(3)[2] == usual.batch(3)[2]


def test_identity_changes_with_the_data_and_not_with_its_place(folders, tmp_path_factory):
    config = DataConfig(kind="folders", root=str(folders), size=32)
    before = open_batches(config, 2, 0).identity
    assert before == open_batches(DataConfig(kind="folders", root=f"{folders}/.", size=32, workers=1), 2, 0).identity
    path = folders / "cam1" / "day" / "0.png"
    content = path.read_bytes()
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 50, 3)))
    assert before != open_batches(config, 2, 0).identity
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    image[0, 0] ^= 8
    for level in range(10):  # until another image of the same number of bytes comes out
        _, other = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, level])
        if len(other) <= len(content):
            break
    path.write_bytes(other.tobytes() + bytes(len(content) - len(other)))
    assert path.stat().st_size == len(content)
    assert before != open_batches(config, 2, 0).identity
    path.write_bytes(content)
    assert before == open_batches(config, 2, 0).identity


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "folder"}, "must be one of town"),
        ({"kind": "folders"}, "'folders' needs root"),
        ({"kind": "lists", "day": "x"}, "needs both day and night"),
        ({"kind": "paired_csv"}, "needs its table as day"),
        ({"transform": "crop"}, "unknown transform"),
        ({"seeds": [1, 201]}, "held_out_seed 201 is a training street"),
        ({"reserved_seeds": [102]}, r"street seed \[102\] is reserved"),
        ({"night_conditions": ["fog"]}, r"condition \['fog'\] is unknown"),
        ({"kind": "folders", "root": "x", "groups": ["a"], "held_out_groups": ["a"]}, "trained on and held out"),
        ({"channels": 4}, "must be 1 or 3"),
        ({"hold_out": 4}, "did you mean"),
    ],
)
def test_impossible_recipes_are_refused_before_anything_is_read(values, message):
    with pytest.raises(UsageError, match=message):
        fill_dataclass(DataConfig, values, "recipe")


def test_unset_variables_are_named(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(UsageError, match="the environment variable NOWHERE is not set"):
        open_batches(DataConfig(kind="folders", root="$NOWHERE/x"), 1, 0)


def test_real_cameras_train_and_others_are_held_out(data_pack):
    config = DataConfig(
        kind="folders", root=str(data_pack("amos_daynight") / "images"), held_out_groups=("cam01", "cam05"),
        size=128, max_side=400, check="header",
    )  # fmt: skip
    batches = open_batches(config, 2, 0)
    day = batches.batch(0)[0]
    assert day.shape == (2, 3, 128, 128)
    assert not {name.split("/")[0] for name in draws(batches, 5)} & {"cam01", "cam05"}
    held = batches.held_out(4)
    assert held[0].mean() > held[1].mean()


def photographs(root, *names):
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((40, 50, 3), 10 + index, np.uint8))


def test_every_source_of_the_papers_opens(tmp_path):
    night = [f"{index:02d}.png" for index in range(2)]
    photographs(tmp_path / "robotcar", *(f"sun/rear/{n}" for n in night), *(f"night/rear/{n}" for n in night))
    photographs(tmp_path / "aachen", *(f"db/{n}" for n in night), *(f"query/night/nexus5x/{n}" for n in night))
    photographs(tmp_path / "pairs", *(f"trainA/{n}" for n in night), *(f"trainB/{n}" for n in night))
    webcams = [f"cam{c}/{d}{i}.png" for c in (1, 2) for d in "dn" for i in (0, 1)]
    photographs(tmp_path / "transient" / "imageAlignedLD", *webcams)
    notes = tmp_path / "transient" / "annotations"
    notes.mkdir()
    (notes / "attributes.txt").write_text("daylight\nnight\n")
    values = {"d": "1,1\t0,1", "n": "0,1\t1,1"}
    (notes / "annotations.tsv").write_text("".join(f"{name}\t{values[name[5]]}\n" for name in webcams))
    photographs(tmp_path / "ims", *night, "x/2.png", "x/3.png")
    (tmp_path / "day.txt").write_text("\n".join(night))
    (tmp_path / "night.txt").write_text("x/2.png\nx/3.png\n")
    lists = {"day": str(tmp_path / "day.txt"), "night": str(tmp_path / "night.txt"), "root": str(tmp_path / "ims")}
    sources = {
        "robotcar": {"root": str(tmp_path / "robotcar")},
        "aachen": {"root": str(tmp_path / "aachen")},
        "paired_folders": {"root": str(tmp_path / "pairs")},
        "transient": {"root": str(tmp_path / "transient")},
        "sfm": lists,
        "lists": lists,
    }
    for kind, source in sources.items():
        batches = open_batches(DataConfig(kind=kind, size=32, **source), 2, 0)
        day, night_images, _ = batches.batch(0)
        assert day.shape == night_images.shape == (2, 3, 32, 32), kind
        assert len(batches.held_out(1)[0]) == 1


def shades(tmp_path, folder, tones):
    for index, tone in enumerate(tones):
        path = tmp_path / folder / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((40, 40, 3), tone, np.uint8))


def test_the_test_set_is_held_out_whole_and_gone_through_once(tmp_path):
    for folder, tones in {
        "trainA": (1, 2, 3),
        "trainB": (4, 5),
        "testA": (10, 20, 30, 40, 50),
        "testB": (60, 70),
    }.items():
        shades(tmp_path, folder, tones)
    said = []
    config = DataConfig(kind="folders", root=str(tmp_path), size=32, test_day="testA", test_night="testB")
    batches = open_batches(config, 2, 0, say=said.append)
    assert not said  # nothing is left over
    assert {name.split("/")[0] for name in draws(batches)} == {"trainA", "trainB"}
    found = ([], [])
    for *images, days, nights in batches.whole_test(2):
        assert len(images[0]) == len(images[1])
        for side, count in enumerate((days, nights)):
            found[side].extend(((images[side][:count].mean((1, 2, 3)) + 1) * 127.5).round().int().tolist())
    assert found == ([10, 20, 30, 40, 50], [60, 70])
    assert batches.held_out(4)[0].shape[0] == 2
    with pytest.raises(UsageError, match="unpaired test images"):
        next(
            open_batches(DataConfig(kind="folders", root=str(tmp_path), size=32, held_out_share=0.0), 2, 0).whole_test(
                2
            )
        )


def test_an_absent_or_half_test_set_is_refused(tmp_path):
    for folder in ("trainA", "trainB", "testA"):
        shades(tmp_path, folder, (1, 2))
    config = DataConfig(kind="folders", root=str(tmp_path), size=32, test_day="testA", test_night="testB")
    with pytest.raises(DataError, match="expected folders testA/ and testB/"):
        open_batches(config, 1, 0)
    for change, message in (
        ({"kind": "folders", "test_day": "testA"}, "give both, or neither"),
        ({"kind": "robotcar", "test_day": "a", "test_night": "b"}, "folders and idx do"),
        ({"kind": "folders", "test_day": "a", "test_night": "b", "held_out_groups": ("x",)}, "choose"),
    ):
        with pytest.raises(UsageError, match=message):
            DataConfig(root="x", **change)


def test_digits_that_are_padded_are_judged_padded(tmp_path):
    for name in ("train", "test"):
        content = struct.pack(">BBBBIII", 0, 0, 8, 3, 6, 28, 28) + bytes([200]) * (6 * 28 * 28)
        (tmp_path / name).write_bytes(content)
    files = {key: str(tmp_path / key.split("_")[0].replace("day", "train").replace("night", "train"))
             for key in ("day", "night", "test_day", "test_night")}  # fmt: skip
    batches = open_batches(
        DataConfig(kind="idx", **files, transform="padded_study", size=32, channels=1, held_out_share=0.0), 2, 0
    )
    day, night, *fresh = next(batches.whole_test(8))
    assert (day.shape, fresh) == ((6, 1, 32, 32), [6, 6])
    assert day[0, 0, 0, 0] == -1  # black around, not enlarged
    assert night[0, 0, 16, 16] == pytest.approx(200 / 127.5 - 1)
