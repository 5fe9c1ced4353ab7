"""What stands behind each row of the papers' tables, and where the files of the benchmarks come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
TRAINED = "embedder.safetensors"
WHITENINGS = ("whitening.npz", "whitening.safetensors")  # beside a trained embedder

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
    """

    published: str = ""
    recipe: str = ""
    parts: tuple[str, ...] = ()
    how: str = ""
    local: bool = False


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

SOURCES: dict[tuple[str, str], dict[str, RowSource]] = {
    ("dark-side", "1"): {
        "VGG16 GeM": RowSource(_VGG, "vgg16_gem"),
        "VGG16 GeM CLAHE C": RowSource(recipe="vgg16_clahe"),
        "VGG16 GeM CLAHE N/D C": RowSource(_VGG_ND, "vgg16_nd"),
        "VGG16 HEDNGAN CD": _HEDNGAN,
        "VGG16 CycleGAN CD": _CYCLEGAN,
        "R101 GeM": RowSource(_R101, "r101_gem"),
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
    },
    ("mduit", "1"): {
        "NetVLAD": RowSource("netvlad_pitts30k"),
        **{row: RowSource(how=_OF_CONTENT.format(row=row, recipe=recipe)) for row, recipe in CONTENT.items()},
    },
    ("thesis", "5.1"): {
        "baseline": RowSource(recipe="thesis_baseline"),
        "CycleGAN Aachen": RowSource(recipe="thesis_cyclegan_aachen"),
        "CycleGAN RobotCar": RowSource(recipe="thesis_cyclegan_robotcar"),
        "CycleGAN SfM": RowSource(recipe="thesis_cyclegan_sfm"),
        "CycleGAN Transattr": RowSource(recipe="thesis_cyclegan_transattr"),
        "pix2pix Transattr": RowSource(recipe="thesis_pix2pix_transattr"),
    },
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
    return [Missing(path, _origin(path.name)) for path in paths if not path.exists()]


def row_files(source: RowSource, row: str, data: Path, given: Mapping[str, Path]) -> tuple[list[Path], list[Missing]]:
    """The weights of a row without parts, its whitening after them, or what is missing.

    Args:
        source: of the row.
        row: its name.
        data: folder.
        given: files by row name, which come first.
    """
    if row in given:
        file = given[row]
        return (
            ([file, *_whitening_beside(file)], []) if file.is_file() else ([], [Missing(file, "given with --weights")])
        )
    missing: list[Missing] = []
    if source.recipe:
        trained = data / EXPERIMENTS / source.recipe / TRAINED
        if trained.is_file():
            return [trained, *_whitening_beside(trained)], []
        command = f"gloam train metric --recipe {source.recipe} --data {data} -o {trained.parent}"
        missing.append(Missing(trained, f"{command}, or 'gloam reproduce' with --train"))
        missing += recipe_inputs(source.recipe, data)
    if source.published:
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
    return [Missing(path, _origin(path.name)) for path in paths if not path.exists()]


def _origin(name: str) -> str:
    for entry in PUBLISHED.values():
        if name in entry.files:
            return f"gloam pull {entry.name} ({entry.urls[entry.files.index(name)]})"
    if name == "ims":
        return "ims.tar.gz of http://cmp.felk.cvut.cz/cnnimageretrieval/data/train/ims/"
    if name.endswith("_X.safetensors"):
        generator = name.split("_generator")[0]
        return f"gloam pull {generator} where it is published, then gloam import; or gloam train translator"
    return "not published by the authors, as far as gloam knows"


def _whitening_beside(file: Path) -> list[Path]:
    return [file.parent / name for name in WHITENINGS if (file.parent / name).is_file()][:1]
