"""The demo's embedder: the one that comes with gloam, and the training that made it.

``python -m gloam.workflows.demo_embedder [FOLDER]`` makes the shipped files of the second look anew: it trains in
FOLDER, reads what is trained there already, and writes ``gloam/workflows/weights``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gloam.data.town.config import LOOKS
from gloam.errors import GloamError, require_all
from gloam.files import write_bytes
from gloam.model_card import InputRule
from gloam.runtime.models.embedder import Embedder

if TYPE_CHECKING:
    from gloam.training.embedders.config import MetricConfig

WEIGHTS = Path(__file__).parent / "weights"
# By look of the town: an embedder of streets of that look.
SHIPPED = {look: {name: WEIGHTS / f"look{look}-{name}.onnx" for name in ("trained", "untrained")} for look in LOOKS}
# The first is larger than in training, 128: more cells to pool. Chosen on towns of seeds 31, 41 and 51, and 31 and 41.
INPUT_RULES = {1: InputRule.of(192), 2: InputRule.of(128)}
RECIPE, SEED, LOOK = "town", 7, 2  # of the embedder, and of the town that it is judged on
PACKAGES = ("torch", "onnx", "onnxscript", "safetensors", "yaml")


@dataclass(frozen=True)
class DemoTraining:
    """How the demo's embedder is trained.

    Attributes:
        recipe: name of a recipe of ``gloam train embedder``; changes: keys of it replaced.
        look: of the streets that it trains and validates on.
        config: what these give.
    """

    recipe: str
    changes: Mapping[str, Any]
    look: int
    config: MetricConfig


def read_demo_recipe(name: str, changes: Mapping[str, Any], judged: int, look: int) -> DemoTraining:
    """The recipe of the demo's embedder.

    Args:
        name: of a recipe of ``gloam train embedder``.
        changes: keys of it replaced.
        judged: seed of the street that is localized, which must be none of the recipe's.
        look: of that street, and so of the recipe's.

    Raises:
        MissingExtraError: a package that training or export needs is missing.
        UsageError: a key or value that is refused, or a recipe that trains on the judged street.
    """
    require_all(PACKAGES, "train the demo's embedder")
    from gloam.training.config_changes import merge
    from gloam.training.embedders.config import read_metric_recipe

    data = read_metric_recipe(name, changes, kind="embedder").data
    changes = merge(changes, {"data": {part: {**vars(data)[part], "look": look} for part in ("train", "validation")}})
    config = read_metric_recipe(name, merge(changes, {"data": {"reserved_seeds": [judged]}}), kind="embedder")
    return DemoTraining(name, changes, look, config)


def train_demo_embedder(folder: Path, training: DemoTraining, tell: Callable[[str, str], None]) -> dict[str, Path]:
    """Train the embedder, or read it where that is done; export it, and the same network untrained.

    Args:
        folder: of the training, as that of ``gloam train embedder``; the exported files lie in it too.
        training: of :func:`read_demo_recipe`.
        tell: gets stage and what was done.

    Returns:
        the ``trained`` and the ``untrained`` file. Their cards name recipe, seeds and the command.
    """
    import torch

    from gloam.export.embedder import export_embedder
    from gloam.networks.checkpoints import load_checkpoint, weights_sha256
    from gloam.networks.embedders import create_embedder
    from gloam.training.embedders.batch_norm import settle_batch_norm
    from gloam.training.embedders.image_sets import open_set
    from gloam.training.train import VIEWS_FOLDER, train

    config, rule = training.config, INPUT_RULES[training.look]
    summary = train("embedder", training.recipe, training.changes, folder)
    tell(
        "train",
        f"{summary.images} images of other streets; held-out street {config.query_condition} to "
        f"{config.map_condition} mAP {summary.untrained['mAP']:.3f} untrained, {summary.validation['mAP']:.3f} trained",
    )
    trained = load_checkpoint(summary.weights)
    torch.manual_seed(config.seed)
    untrained = create_embedder(config.network, **config.network_options)
    settle_batch_norm(untrained, np.stack(open_set(config.data.train, folder / VIEWS_FOLDER).pixels or ()))
    random = {"recipe": "random weights, statistics of the training images", "data": trained.provenance["data"]}
    stated = {
        "licence": "Apache-2.0",
        "seed": config.seed,
        "street_seeds": [*config.data.train["seeds"], *config.data.validation["seeds"]],
        "command": "gloam demo --train",
    }
    paths = {}
    for name, (model, provenance) in {
        "trained": (trained.model, trained.provenance),
        "untrained": (untrained, random),
    }.items():
        paths[name] = folder / SHIPPED[training.look][name].name
        if _exported(paths[name]) != (weights_sha256(model.state_dict()), rule):
            export_embedder(model, paths[name], input_rule=rule, provenance={**provenance, **stated})
    tell("export", ", ".join(str(path) for path in paths.values()))
    return paths


def _exported(path: Path) -> tuple[str, InputRule | None] | None:
    """The weights' hash and the input rule of a file that is there."""
    if not path.is_file():
        return None
    try:
        card = Embedder.load(path).card
    except GloamError:
        return None  # a file of an older schema, or damaged: exported again
    return card.provenance["weights_sha256"], card.input_rule


def main(folder: str = "build/demo-embedder") -> None:
    """Make the shipped files of the second look anew; what was exported before is, too."""
    training = read_demo_recipe(RECIPE, {}, SEED, LOOK)
    for path in SHIPPED[LOOK].values():
        (Path(folder) / path.name).unlink(missing_ok=True)
    made = train_demo_embedder(Path(folder), training, lambda stage, what: print(stage, what))
    for name, path in SHIPPED[LOOK].items():
        write_bytes(path, made[name].read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
