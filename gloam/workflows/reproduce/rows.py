"""What stands behind each row of the papers' tables, and where the files of the benchmarks come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.published.names import DARK_SIDE as DARK_SIDE_FILES
from gloam.data.published.names import PUBLISHED, find_published
from gloam.errors import UsageError
from gloam.workflows.reproduce.published import published

# Under the data folder, as cirtorch has it.
EXPERIMENTS = Path("experiments")  # RECIPE/embedder.safetensors
WEIGHTS = Path("networks")
TEST = Path("test")
TRAINING_TABLE = Path("train/retrieval-SfM-120k/retrieval-SfM-120k.pkl")
TRAINING_IMAGES = Path("train/retrieval-SfM-120k/ims")
ROOT = "{root}"  # in a recipe's paths
WHITENING_TABLE = Path("train/retrieval-SfM-120k/retrieval-SfM-120k-whiten.pkl")
DAY_LIST = Path("train/retrieval-SfM-120k/dataset/train_day.txt")
NIGHT_LIST = Path("train/retrieval-SfM-120k/dataset/train_night.txt")
INCEPTION_WEIGHTS = WEIGHTS / "weights-inception-2015-12-05-6726825d.pth"
TRAINED = "embedder.safetensors"
STUDENT = "student"  # a generator's product: an edge detector that knows nights
WHITENINGS = ("whitening.npz", "whitening.safetensors")  # beside a trained embedder

# What makes the nights of recipes of metric learning: names of files in networks/, and the recipes that train them.
MAKERS = {
    **{f"{name}_generator_X": name for name in ("cyclegan", "hedgan", "hedngan", "rcfgan", "rcfngan", "cut", "cyeda")},
    **{f"thesis_cyclegan_{name}": f"thesis_cyclegan_{name}" for name in ("aachen", "robotcar", "sfm")},
    "thesis_cyclegan_transattr": "thesis_cyclegan",
    "thesis_pix2pix_transattr": "thesis_pix2pix",
    **{f"{name}_student": name for name in ("hedngan", "rcfngan")},
}
# Native checkpoints of edge detectors in networks/, and what they are imported from.
DETECTORS = {"hed_bsds500": "hed_sniklaus", "rcf_bsds500": "rcf_bsds500_pascal"}
# Files that no author published, and what makes them.
MADE_BY = {
    "retrieval-SfM-ND.pkl": "not published: list your own pairs of night and day, one a line, then gloam dataset build "
    "PAIRS.txt --from pairs --images IMAGES -o ND.json, and gloam train metric --set data.real.kind=json "
    "--set data.real.path=ND.json --set data.real.images=IMAGES",
    **{name: f"{DARK_SIDE_FILES}{name}" for name in ("train_day.txt", "train_night.txt")},
    "drit_generator_X.safetensors": "gloam does not train DRIT: gloam import DRIT.pth --as drit -o this file",
}

PACKAGES = ("torch", "onnx", "onnxscript", "safetensors", "yaml", "onnxruntime")  # of rows that are trained or exported


@dataclass(frozen=True)
class RowSource:
    """How a row's descriptor comes about.

    Attributes:
        published: name of public weights, as ``gloam pull`` knows it.
        recipe: of metric learning, run where there are no public weights.
        parts: other rows of the same or of table 1 whose descriptors are put side by side.
        how: what to do where neither is there.
        local: searched by local features and ASMK, not by one descriptor.
        to_day: what translates Tokyo's queries by night to day for the part's descriptor: product of a recipe's run
            below ``experiments``; ``given`` where it must be given with ``--weights``.
        network: that the weights hold, where no recipe says it.
    """

    published: str = ""
    recipe: str = ""
    parts: tuple[str, ...] = ()
    how: str = ""
    local: bool = False
    to_day: str = ""
    network: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A test set in the layout of cirtorch: ``test/NAME/gnd_NAME.pkl`` and its images in ``jpg``."""

    name: str
    column: str
    images: str

    @property
    def ground_truth(self) -> Path:
        """Under the data folder."""
        return TEST / self.name / f"gnd_{self.name}.pkl"

    @property
    def queries_are_the_map(self) -> bool:
        """Tokyo's are: each image is searched for among all others."""
        return self.column == "Tokyo"

    @property
    def folder(self) -> Path:
        """Of the images, under the data folder."""
        return TEST / self.name / "jpg"


@dataclass(frozen=True)
class Missing:
    """A file that a row or column needs, and where to get it."""

    path: Path
    where: str


BENCHMARKS = (
    Benchmark(
        "247tokyo1k",
        "Tokyo",
        "247query_v3.zip of http://www.ok.ctrl.titech.ac.jp/~torii/project/247/download, all images in one folder",
    ),
    Benchmark("roxford5k", "ROxf", "oxbuild_images-v1.tgz of https://www.robots.ox.ac.uk/~vgg/data/oxbuildings"),
    Benchmark(
        "rparis6k", "RPar", "paris_1-v1.tgz and paris_2-v1.tgz of https://www.robots.ox.ac.uk/~vgg/data/parisbuildings"
    ),
)
GIVEN = "no public weights that gloam knows: give any embedder with --weights '{row}=FILE'"

_VGG, _R101 = "retrievalSfM120k-vgg16-gem", "retrievalSfM120k-resnet101-gem"
_VGG_ND = "vgg_clahe_sfmnd0.25"

_HEDNGAN = RowSource("gem_vgg16_hedngan", "vgg16_hedngan_cd")
_CYCLEGAN = RowSource("gem_vgg16_cyclegan", "vgg16_cyclegan_cd")
_LOCALIZED = {  # one embedder a row, for both benchmarks
    "VGG16 GeM": RowSource(_VGG, "vgg16_gem"),
    "VGG16 CycleGAN": _CYCLEGAN,
    "VGG16 HEDNGAN": _HEDNGAN,
    "R101 GeM": RowSource(_R101, "r101_gem"),
    "R101 CycleGAN": RowSource("gem_resnet101_cyclegan", "r101_cyclegan_cd"),
    "R101 HEDNGAN": RowSource("gem_resnet101_hedngan", "r101_hedngan_cd"),
}
_OF_CONTENT = (
    "not published by the authors; `gloam train translator --recipe {recipe} --set data.day=PAIRS -o runs/{recipe}` "
    "trains it on the pairs of `gloam pair`; then give --weights '{row}=runs/{recipe}/embedder.safetensors'"
)
# Rows of mduit's table by the recipes that train their vectors: with and without translation and InfoNCE.
CONTENT = {
    "w/o I2I, L_NCE": "mduit_no_i2i_no_nce",
    "w/o I2I": "mduit_no_i2i",
    "w/o L_NCE": "mduit_no_nce",
    "Full": "mduit",
}

_THESIS = {
    name: RowSource(recipe=f"thesis_{name.lower().replace(' ', '_')}")
    for name in ("CycleGAN Aachen", "CycleGAN RobotCar", "CycleGAN SfM", "CycleGAN Transattr", "pix2pix Transattr")
}

SOURCES: dict[tuple[str, str], dict[str, RowSource]] = {
    ("dark-side", "1"): {
        "VGG16 GeM": RowSource(_VGG, "vgg16_gem"),
        "VGG16 GeM N/D": RowSource(recipe="vgg16_gem_nd"),
        "VGG16 CIConv": RowSource(
            how="the number is of CIConv's authors, whose code has it in front of ResNets; gloam, too, has none of "
            "VGG16"
        ),
        "VGG16 GeM CLAHE C": RowSource(recipe="vgg16_clahe"),
        "VGG16 GeM CLAHE N/D C": RowSource(_VGG_ND, "vgg16_nd"),
        "VGG16 HEDNGAN CD": _HEDNGAN,
        "VGG16 CycleGAN CD": _CYCLEGAN,
        "R101 GeM": RowSource(_R101, "r101_gem"),
        "R101 CIConv": RowSource(
            how="the authors' file is not among what gloam pulls: give it with --weights 'R101 CIConv=FILE.pth', "
            "which is "
            "read as gloam import --as ciconv reads it",
            network="ciconv_resnet101",
        ),
        "R101 HEDNGAN CD": RowSource("gem_resnet101_hedngan", "r101_hedngan_cd"),
        "R101 CycleGAN CD": RowSource("gem_resnet101_cyclegan", "r101_cyclegan_cd"),
        "R18 HOW": RowSource("how_r18", "how_r18_baseline", local=True),
        "R18 HOW N/D": RowSource(recipe="how_r18_nd", local=True),
        "R18 HOW HEDNGAN CD": RowSource(recipe="how_r18_hedngan_cd", local=True),
        "R18 HOW CycleGAN CD": RowSource(recipe="how_r18_cyclegan_cd", local=True),
    },
    ("dark-side", "3"): {
        f"{benchmark} {name}": source for benchmark in ("Aachen", "RobotCar") for name, source in _LOCALIZED.items()
    },
    ("dark-side", "4"): {
        "EdgeMAC": RowSource(
            how="gloam does not have its detector, structured forests: give any embedder with --weights 'EdgeMAC=FILE'"
        ),
        "HEDMAC": RowSource(recipe="vgg16_hedmac"),
        "HEDN-MAC": RowSource(recipe="vgg16_hedn_mac"),
        "RCFN-MAC": RowSource(recipe="vgg16_rcfn_mac"),
        "HEDMAC + GeM": RowSource(parts=("HEDMAC", "VGG16 GeM")),
        "HEDN-MAC + GeM": RowSource(parts=("HEDN-MAC", "VGG16 GeM")),
        "HEDN-MAC + HEDNGAN": RowSource(parts=("HEDN-MAC", "VGG16 HEDNGAN CD")),
        "HEDN-MAC + CycleGAN": RowSource(parts=("HEDN-MAC", "VGG16 CycleGAN CD")),
    },
    ("dark-side", "5"): {
        "CLAHE C": RowSource(recipe="vgg16_clahe"),
        "CLAHE CD": RowSource(recipe="vgg16_clahe_cd"),
        "N/D C": RowSource(_VGG_ND, "vgg16_nd"),
        "N/D CD": RowSource(recipe="vgg16_nd_cd"),
        "HEDNGAN": RowSource(recipe="vgg16_hedngan"),
        "HEDNGAN C": RowSource(recipe="vgg16_hedngan_c"),
        "HEDNGAN CD": _HEDNGAN,
    },
    ("dark-side", "6"): {
        "CLAHE C": RowSource(recipe="vgg16_clahe"),
        "N/D C": RowSource(_VGG_ND, "vgg16_nd"),
        "HEDNGAN C": RowSource(recipe="vgg16_hedngan_c"),
        "HEDNGAN CD": _HEDNGAN,
    },
    ("dark-side", "7"): {
        "DRIT": RowSource(recipe="vgg16_drit_cd"),
        "CUT": RowSource(recipe="vgg16_cut_cd"),
        "CyEDA": RowSource(recipe="vgg16_cyeda_cd"),
        "RCFNGAN": RowSource(recipe="vgg16_rcfngan_cd"),
        "HEDGAN": RowSource(recipe="vgg16_hedgan_cd"),
        "HEDNGAN": _HEDNGAN,
        "CycleGAN": _CYCLEGAN,
        "CycleGAN + N/D": RowSource(recipe="vgg16_cyclegan_nd_cd"),
        "CycleGAN + N/D 50 %": RowSource(recipe="vgg16_cyclegan_nd50_cd"),
        **{
            f"CyEDA-{name}": RowSource(
                how=f"its generator is its authors' of {name}, which gloam import --as cyeda reads: train the embedder "
                f"with gloam train metric --recipe vgg16_cyeda_cd --maker GENERATOR, then --weights 'CyEDA-{name}=FILE'"
            )
            for name in ("BDD", "GTA")
        },
        "Lab inversion": RowSource(recipe="vgg16_lab"),
        "night to day, ToDayGAN": RowSource(
            parts=("VGG16 GeM",),
            to_day="given",
            how="gloam does not train ToDayGAN: gloam import ENCODER.pth --as todaygan --decoder DECODER.pth -o "
            "FILE, then "
            "--weights 'night to day, ToDayGAN=FILE'",
        ),
        "night to day, CycleGAN": RowSource(parts=("VGG16 GeM",), to_day="cyclegan"),
    },
    ("mduit", "1"): {
        "NetVLAD": RowSource("netvlad_pitts30k"),
        **{row: RowSource(how=_OF_CONTENT.format(row=row, recipe=recipe)) for row, recipe in CONTENT.items()},
    },
    ("thesis", "5.1"): {"baseline": RowSource(recipe="thesis_baseline"), **_THESIS},
    ("thesis", "figure5.1"): _THESIS,
}


def row_source(paper: str, table: str, row: str) -> RowSource:
    """Of a row of a table; one that says what to give where gloam knows nothing.

    Raises:
        UsageError: no such table or row.
    """
    rows = published(paper, table).rows
    if row not in rows:
        raise UsageError(f"{paper}, table {table}: no row {row!r}; choose one of {', '.join(rows)}")
    return SOURCES.get((paper, table), {}).get(row, RowSource(how=GIVEN.format(row=row)))


def missing_of_benchmark(benchmark: Benchmark, data: Path) -> list[Missing]:
    """What of a test set is not under the data folder."""
    found = []
    if not (data / benchmark.ground_truth).is_file():
        url = find_published(f"gnd_{benchmark.name}").urls[0]
        found.append(
            Missing(
                data / benchmark.ground_truth,
                f"gloam pull gnd_{benchmark.name} --to {data / TEST / benchmark.name} ({url})",
            )
        )
    folder = data / benchmark.folder
    if not folder.is_dir() or not any(folder.iterdir()):
        found.append(Missing(folder, benchmark.images))
    return found


def missing_of_codebook(data: Path) -> list[Missing]:
    """What the codebook of a row with local features is learned from and is not under the data folder."""
    paths = (data / TRAINING_TABLE, data / TRAINING_IMAGES)
    return [Missing(path, origin(path)) for path in paths if not path.exists()]


def row_files(
    source: RowSource, row: str, data: Path, given: Mapping[str, Path], seed: int = 0
) -> tuple[list[Path], list[Missing]]:
    """The weights of a row without parts, its whitening after them, or what is missing.

    Args:
        source: of the row.
        row: its name.
        data: folder.
        given: files by row name, which come first.
        seed: of the training; public weights have none.
    """
    if row in given:
        file = given[row]
        return (
            ([file, *_whitening_beside(file)], []) if file.is_file() else ([], [Missing(file, "given with --weights")])
        )
    missing: list[Missing] = []
    if source.recipe:
        trained = experiment(data, source.recipe, seed) / TRAINED
        if trained.is_file():
            return [trained, *_whitening_beside(trained)], []
        command = f"gloam train metric --recipe {source.recipe} --data {data} -o {trained.parent}"
        missing.append(Missing(trained, f"{command}, or 'gloam reproduce' with --train"))
        missing += recipe_inputs(source.recipe, data)
    if source.published and seed == 0:
        entry = find_published(source.published)
        files = [data / WEIGHTS / name for name in entry.files]
        absent = [
            Missing(file, f"gloam pull {entry.name} --to {data / WEIGHTS}") for file in files if not file.is_file()
        ]
        if not absent:
            return files, []
        missing = [*absent, *missing]
    if not missing:
        missing.append(Missing(Path(row), source.how or GIVEN.format(row=row)))
    return [], missing


def experiment(data: Path, recipe: str, seed: int = 0) -> Path:
    """The folder of a recipe's run; further seeds have folders of their own."""
    return data / EXPERIMENTS / (recipe if seed == 0 else f"{recipe}-seed{seed}")


def recipe_inputs(recipe: str, data: Path) -> list[Missing]:
    """The files and folders that a recipe of metric learning reads and that are not under the data folder."""
    from gloam.training.embedders.config import read_metric_recipe

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            for item in value.values():
                yield from texts(item)

    wanted = [text for text in texts(read_metric_recipe(recipe).to_dict()) if text.startswith(ROOT)]
    paths = dict.fromkeys(data / text.removeprefix(ROOT).lstrip("/") for text in wanted)
    return [Missing(path, origin(path)) for path in paths if not path.exists()]


def origin(path: Path) -> str:
    """Where a file of the data folder comes from: who published it, or the command that makes it."""
    name = path.name
    for entry in PUBLISHED.values():
        if name in entry.files:
            return f"gloam pull {entry.name} --to {path.parent} ({entry.urls[entry.files.index(name)]})"
    if name == "ims":
        return "ims.tar.gz of http://cmp.felk.cvut.cz/cnnimageretrieval/data/train/ims/"
    if name in MADE_BY:
        return MADE_BY[name]
    if path.stem in DETECTORS:
        entry = find_published(DETECTORS[path.stem])
        pulled = path.parent / entry.files[0]
        return f"gloam pull {entry.name} --to {path.parent}, then gloam import {pulled} --as {entry.family} -o {path}"
    recipe = MAKERS.get(path.stem)
    if recipe is not None:
        data = path.parent.parent
        command = f"gloam train translator --recipe {recipe} -o {data / EXPERIMENTS / recipe}"
        product = product_of(path)
        made = f"{command}, its {product}.safetensors as this file; or 'gloam reproduce' with --train"
        if recipe in PUBLISHED and product != STUDENT:
            entry = find_published(recipe)
            pulled = path.parent / entry.files[0]
            return f"gloam pull {recipe} --to {path.parent}, then gloam import {pulled} -o {path}; or {made}"
        return made
    return "not published by the authors, as far as gloam knows"


def product_of(path: Path) -> str:
    """Which of a generator's products a file of :data:`MAKERS` is."""
    return STUDENT if path.stem.endswith(f"_{STUDENT}") else "day2night"


def maker_of(recipe: str, data: Path) -> Path | None:
    """The file that makes the nights of a recipe of metric learning; None where it has none, or a formula."""
    from gloam.training.embedders.config import read_metric_recipe

    return _rooted(read_metric_recipe(recipe).maker, data)


def detector_of(recipe: str, data: Path) -> Path | None:
    """The edge detector in front of the network of a recipe of metric learning; None where it has none."""
    from gloam.training.embedders.config import read_metric_recipe

    return _rooted(read_metric_recipe(recipe).detector_weights, data)


def _rooted(text: str | None, data: Path) -> Path | None:
    return data / text.removeprefix(ROOT).lstrip("/") if text is not None and text.startswith(ROOT) else None


def network_of(recipe: str) -> str:
    """The network that a recipe of metric learning trains."""
    from gloam.training.embedders.config import read_metric_recipe

    return read_metric_recipe(recipe).network


def _whitening_beside(file: Path) -> list[Path]:
    return [file.parent / name for name in WHITENINGS if (file.parent / name).is_file()][:1]
