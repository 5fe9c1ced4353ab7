"""Figure 3's methods as what they do: an image into the appearance of an example, or into its domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gloam.errors import ModelError
from gloam.files import sha256_file
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.appearance import Appearance
from gloam.runtime.models.conditions import APPEARANCE
from gloam.runtime.models.image_model import Pixels
from gloam.runtime.models.translator import Translator
from gloam.workflows.evaluation.domains import open_towards
from gloam.workflows.reproduce.localization.supply import Weights
from gloam.workflows.reproduce.models import model_folder

Made = Callable[[Pixels, Pixels, str], Pixels]  # of a source, an example, and the example's domain


@dataclass(frozen=True)
class Method:
    """A column's translator.

    Attributes:
        make: the translation of a source.
        facts: weights with sha256, network, recipe, where they are from, and what the translation goes by.
    """

    make: Made
    facts: Mapping[str, Any] = field(default_factory=dict)


def open_method(weights: Weights, output: Path, device: Literal["cpu", "cuda"] = "cpu") -> Method:
    """A translator from its weights.

    Args:
        weights: one file: a native checkpoint, which is exported once, translator and appearance encoder, and goes by
            the example; or an exported translator, which goes by the name of the example's domain, or is of one
            direction.
        output: for exported models.
        device: where it runs.

    Raises:
        ModelError: the file cannot be read, or is of a network that reads no appearance off an example.
    """
    (file,) = weights.files
    stated = {"weights": [{"file": str(file), "sha256": sha256_file(file)}]}
    if file.suffix == ".onnx":
        make, facts = _by_domain(file, device)
    else:
        make, facts = _by_example(file, output, device)
    return Method(make, {**stated, **facts, "from": weights.origin})


def _by_domain(file: Path, device: Literal["cpu", "cuda"]) -> tuple[Made, dict[str, Any]]:
    method = open_towards(file, (), device)
    model = method.whole
    facts: dict[str, Any] = {"network": model.card.name, "recipe": model.card.provenance.get("recipe")}
    if method.domains:
        goes = "the name of the example's domain"
    elif any(spec.name == APPEARANCE for spec in model.told):
        raise ModelError(
            f"{file}: takes an appearance and keeps none of the domains; give the native checkpoint "
            "(translator.safetensors), whose appearance encoder is exported with it"
        )
    else:
        goes = "nothing: one direction, the same for every example"

    def make(source: Pixels, example: Pixels, domain: str) -> Pixels:
        return method(domain)([source])[0]

    return make, facts | {"goes by": goes}


def _by_example(file: Path, output: Path, device: Literal["cpu", "cuda"]) -> tuple[Made, dict[str, Any]]:
    from gloam.export.appearance import export_appearance
    from gloam.export.translator import export_translator
    from gloam.networks.checkpoints import load_generator

    folder = model_folder([file], output)
    translate, appearance = folder / "translate.onnx", folder / "appearance.onnx"
    if not (translate.is_file() and appearance.is_file()):
        trained = load_generator(file)
        export_appearance(trained.model, appearance, provenance=trained.provenance)
        export_translator(trained.model, translate, provenance=trained.provenance)
    placement = Placement(device)
    translator, encoder = Translator.load(translate, placement), Appearance.load(appearance, placement)
    card = translator.card
    facts = {"network": card.name, "recipe": card.provenance.get("recipe"), "goes by": "the example"}

    def make(source: Pixels, example: Pixels, domain: str) -> Pixels:
        return translator.like([example], encoder)([source])[0]

    return make, facts
