"""ModelCard: what an exported model says of itself, and the two identities computed from it.

The card travels inside the ``.onnx`` file as JSON metadata under :data:`METADATA_KEY`.

- **space** decides whether two descriptors may be compared: network, weights, input rule, photometric normalisation,
  scales, pooling, whitening, dimension, metric.
- **fingerprint** decides caches and resume: space + ONNX bytes + profile + precision.

Both are computed, never stored in the file that they hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gloam import __version__
from gloam.errors import ModelError, UsageError
from gloam.files import load_json, sha256_json
from gloam.model_card.feature_rule import KEYPOINT_OUTPUTS, FeatureRule, KeypointRule, matcher_inputs
from gloam.model_card.input_rule import LITERATURE, NATIVE, Decoding, InputRule, Photometric
from gloam.model_card.selftest import LOOSEST, MOST_PIXELS, MOST_VALUES, SelfTest, SelfTestFormula, formula_of_kind
from gloam.model_card.space import space_read_by
from gloam.model_card.tensor_spec import TensorSpec
from gloam.padding import LARGEST_SIDE, PaddingProfile
from gloam.record import Written, fill_dataclass, sparse, to_json

SCHEMA = 1
METADATA_KEY = "gloam.card"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
KINDS = ("embedder", "local_features", "matcher", "translator", "appearance", "edges", "fused")


@dataclass(frozen=True)
class ModelCard(Written):
    """Everything a program needs to run a model that it has never seen.

    Attributes:
        kind: one of :data:`KINDS`.
        name: the network's name, e.g. ``gem_mobilenet_v2``.
        network: architecture and its options, e.g. ``{"backbone": "mobilenet_v2", "padding": "tf"}``.
        mean, std: per channel, on [0, 1] RGB, already inside the graph.
        scales: image scales whose descriptors are aggregated.
        pooling: e.g. ``{"name": "gem", "p": 3.0}``.
        whitening: None or ``{"name": ..., "sha256": ...}``.
        translate: fingerprint of the translator that images pass before this model, or None. In the card of a file
            of kind ``fused`` the graph does it itself; of any other, a caller adds it, like ``photometric``.
        resize: longer side in pixels to which the graph itself reduces larger images first, or None.
        input_rule: how callers resize images, as the export stated it; None in files that state none. What holds is
            :attr:`reads`.
        provenance: at least ``recipe``, ``data``, ``weights_sha256``, ``licence``.
        selftest_larger: a second self-test at another size and batch, which finds what the first one's size hides; None
            in files from before there was one.
        keypoints: of a file of local features whose outputs are :data:`KEYPOINT_OUTPUTS`; None in all others.
        takes: of a matcher, the local features that it is for.
        gloam: version that wrote the file. This and the next two are for programs without gloam, enter no identity,
            and are None in files from before they were stated.
        decoding: how an image file becomes pixels; None of a matcher.
        selftest_formula: what the self-tests feed and keep. What holds is :attr:`formula`.
    """

    kind: str
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: PaddingProfile
    network: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Mapping[str, Any]
    photometric: Photometric = field(default_factory=Photometric)
    scales: tuple[float, ...] = (1.0,)
    pooling: Mapping[str, Any] | None = None
    whitening: Mapping[str, Any] | None = None
    dimension: int | None = None
    metric: str = "cosine"
    precision: str = "fp32"
    selftest: SelfTest | None = None
    translate: str | None = sparse(None)
    resize: int | None = sparse(None)
    input_rule: InputRule | None = sparse(None)
    selftest_larger: SelfTest | None = sparse(None)
    keypoints: KeypointRule | None = sparse(None)
    takes: FeatureRule | None = sparse(None)
    gloam: str | None = sparse(None)
    decoding: Decoding | None = sparse(None)
    selftest_formula: SelfTestFormula | None = sparse(None)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"model card: unknown kind {self.kind!r}; this gloam knows {', '.join(KINDS)}")
        if problem := self._problem():
            raise ModelError(f"model card: {problem}; export the model again")

    def _problem(self) -> str | None:
        """What no model can be, or None."""
        if not self.name or not self.name.isprintable() or len(self.name) > 200:
            return f"the name {self.name[:200]!r} is no line of text"
        if self.precision not in PRECISIONS:
            return f"unknown precision {self.precision!r}"
        if self.gloam is not None and not (self.gloam.isprintable() and 0 < len(self.gloam) <= 100):
            return f"the version {self.gloam[:100]!r} of gloam is no line of text"
        tested, usual = self.formula, self._usual_formula
        if tested.digest != usual.digest or (usual.conditions is not None and tested.conditions is None):
            return (
                f"a self-test that keeps {tested.digest} of a model of kind {self.kind!r}, which gives {usual.digest}"
            )
        if self.kind == "matcher":
            return self._matcher_problem()
        if (
            not self.inputs
            or len(self.inputs[0].shape) != 4
            or self.inputs[0].shape[3] not in (1, 3)
            or not self.outputs
        ):
            return "images go in as [batch, height, width, 1 or 3] and something comes out, which it does not state"
        if len(self.mean) != len(self.std) or not all(abs(value) <= 1e6 for value in self.mean):
            return f"a mean of {self.mean} and a deviation of {self.std} do not normalise an image"
        if not all(1e-6 <= value <= 1e6 for value in self.std):
            return f"a deviation of {self.std}"
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            return f"scales of {self.scales}"
        if self.resize is not None and not 32 <= self.resize <= LARGEST_SIDE:
            return f"images reduced to {self.resize} px"
        if self.keypoints is not None and (
            self.kind != "local_features" or tuple(output.name for output in self.outputs) != KEYPOINT_OUTPUTS
        ):
            return f"keypoints of kind {self.kind!r} whose outputs are not {', '.join(KEYPOINT_OUTPUTS)}"
        if self.embeds or self.kind == "local_features" or self.dimension is not None:
            stated = self.outputs[0 if self.keypoints is None else 2].shape[-1:]
            if self.dimension is None or not 1 <= self.dimension <= MOST_VALUES:
                return f"a dimension of {self.dimension}"
            if stated and isinstance(stated[0], int) and stated[0] != self.dimension:
                return f"a dimension of {self.dimension} beside an output of {stated[0]} values"
        return None if self.selftest is None else self._selftest_problem(self.selftest)

    def _matcher_problem(self) -> str | None:
        takes = self.takes
        if takes is None or not takes.name or not 1 <= takes.dimension <= MOST_VALUES:
            return "a matcher that does not state which features it takes"
        wanted = matcher_inputs(takes)
        if self.inputs != wanted or len(self.outputs) != 2:
            names = ", ".join(spec.name for spec in wanted)
            return f"a matcher of {takes.name} takes {names}, and gives matches and scores"
        return None if self.selftest is None else self._selftest_problem(self.selftest)

    def _selftest_problem(self, test: SelfTest) -> str | None:
        batch, height, width = test.shape
        if min(test.shape) < 1 or batch * height * width > MOST_PIXELS:
            return f"a self-test of {batch} images of {width}x{height}"
        if len(test.sizes) != batch or not all(0 < h <= height and 0 < w <= width for h, w in test.sizes):
            return f"a self-test whose images of {width}x{height} are of the sizes {test.sizes[:4]}"
        if not 1 <= len(test.output) <= MOST_VALUES or not np.isfinite(test.output).all():
            return "a self-test without an output of finite numbers"
        for precision, value in test.tolerance.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LOOSEST:
                return f"a self-test whose tolerance in {precision} is {value!r:.40}, which tells nothing"
        sized = self.embeds or self.keypoints is not None
        if sized and test.tolerance.get(self.precision, 0.0) >= np.abs(test.output).max():
            if self.keypoints is not None:
                return f"a self-test without a keypoint of score {self.keypoints.threshold:g}; lower the --threshold"
            return f"a self-test that zeros would pass, for its tolerance is {test.tolerance[self.precision]:g}"
        return None

    @property
    def embeds(self) -> bool:
        """Whether the model gives one descriptor of an image: an embedder, alone or behind a translator."""
        return self.kind in ("embedder", "fused")

    @property
    def describes(self) -> bool:
        """Whether the model gives descriptors or local features, for which an input rule holds."""
        return self.embeds or self.kind == "local_features"

    @property
    def prepares(self) -> bool:
        """Whether the graph itself resizes or translates images, so that callers may change nothing before it."""
        return self.resize is not None or self.kind == "fused"

    @property
    def reads(self) -> InputRule:
        """The rule by which callers resize images: the card's; the literature's where it states none; native sizes
        where the graph resizes."""
        return NATIVE if self.resize is not None else self.input_rule or LITERATURE

    @property
    def formula(self) -> SelfTestFormula:
        """What the self-tests feed and keep: as the card states it, or as all exports did before cards stated it."""
        return self.selftest_formula or self._usual_formula

    @property
    def _usual_formula(self) -> SelfTestFormula:
        return formula_of_kind(
            self.kind, self.keypoints is not None, any(spec.default is not None for spec in self.inputs)
        )

    def explained(self) -> ModelCard:
        """The card of a new file, with all that a program without gloam has to know; no identity changes."""
        decoding = None
        if self.kind != "matcher":
            decoding = Decoding("upright" if self.keypoints is None else self.keypoints.frame)
        return replace(
            self,
            gloam=__version__,
            decoding=decoding,
            input_rule=self.reads if self.describes else self.input_rule,
            selftest_formula=self.formula,
        )

    def padded(self, shapes: Mapping[str, Sequence[int]]) -> tuple[int, int]:
        """Height and width of a run, or a matcher's numbers of keypoints, from the shapes of its inputs by name; (0, 0)
        where the first is none of that kind."""
        first, *others = self.inputs
        if len(shapes[first.name]) != len(first.shape):
            return 0, 0
        if self.kind == "matcher":
            return int(shapes[first.name][1]), int(shapes[others[0].name][1])
        return int(shapes[first.name][1]), int(shapes[first.name][2])

    def described_input(self) -> str:
        """:attr:`reads` in words, and that the file does not say so itself where it does not."""
        stated = "" if self.input_rule or self.resize else "; the file states no rule, this is the literature's"
        inside = "" if self.resize is None else f"; reduced to {self.resize} px inside the graph"
        return f"{self.reads}{inside}{stated}"

    def with_input_rule(self, rule: InputRule) -> ModelCard:
        """The card of the same model fed with images of other sizes (another space), in multiples of its patch.

        Raises:
            UsageError: any size for a graph that resizes images itself.
        """
        rule = rule.in_cells(self.profile.cell)
        if self.resize is not None and rule != NATIVE:
            raise UsageError(
                f"{self.name} reduces images to {self.resize} px itself, and shrinking twice would change its "
                "descriptors; leave out --max-side and --stretch"
            )
        return self if rule == self.reads else replace(self, input_rule=rule)

    @property
    def selftests(self) -> tuple[SelfTest, ...]:
        """All that the card holds."""
        return tuple(test for test in (self.selftest, self.selftest_larger) if test is not None)

    def with_photometric(self, photometric: Photometric) -> ModelCard:
        """The card of the same model fed with differently normalised images (another space).

        Raises:
            ModelError: the normalisation is baked into the graph and cannot be replaced, or would come before what the
                graph does first.
        """
        if self.photometric.baked and photometric != self.photometric:
            raise ModelError(f"{self.name}: {self.photometric.name} is inside the graph and cannot be replaced")
        if self.prepares and photometric != self.photometric:
            raise ModelError(
                f"{self.name}: {photometric.name} belongs behind the {self._first()}, which is inside the graph; "
                "export the model with --bake-clahe"
            )
        return replace(self, photometric=photometric)

    def with_translate(self, fingerprint: str | None) -> ModelCard:
        """The card of the same model fed with translated images (another space); None for untranslated ones, wherever
        they are translated now.

        Raises:
            ModelError: a translator in front of a graph that translates or resizes images itself.
        """
        if fingerprint is None:
            return replace(self, kind="embedder" if self.kind == "fused" else self.kind, translate=None)
        if self.prepares:
            raise ModelError(
                f"{self.name}: a translator cannot stand in front of the {self._first()}, which is inside the graph; "
                "use the model without it, or fuse both with `gloam export --translate`"
            )
        return replace(self, translate=fingerprint)

    def _first(self) -> str:
        return "resizing" if self.resize is not None else "translation"

    def space(self) -> str:
        """Hex sha256 of all that decides whether two descriptors may be compared.

        A fused model has the space of its embedder fed by its translator's file: where a translator runs is no matter.
        """
        photometric: dict[str, Any] = {"name": self.photometric.name}
        if self.photometric.name != "none":
            photometric |= {"clip": self.photometric.clip, "grid": self.photometric.grid}
        space = sha256_json(
            {
                "kind": "embedder" if self.kind == "fused" else self.kind,
                "network": dict(self.network),
                "weights_sha256": self.provenance.get("weights_sha256"),
                "mean": list(self.mean),
                "std": list(self.std),
                "photometric": photometric,
                "scales": list(self.scales),
                "pooling": _plain(self.pooling),
                "whitening": _plain(self.whitening),
                "dimension": self.dimension,
                "metric": self.metric,
                # Only where there are, so that the spaces of images as they are stay what they were.
                **({"translate": self.translate} if self.translate is not None else {}),
                **({"resize": self.resize} if self.resize is not None else {}),
                **({"takes": to_json(self.takes)} if self.takes is not None else {}),
            }
        )
        return space if self.resize is not None else space_read_by(space, self.reads)

    def fingerprint(self, onnx_sha256: str) -> str:
        """Hex sha256 that decides caches and resume; ``onnx_sha256`` is the hash of the file's bytes."""
        return sha256_json(
            {
                "space": self.space(),
                "onnx_sha256": onnx_sha256,
                "profile": to_json(self.profile),
                "precision": self.precision,
            }
        )

    def expect_kind(self, kind: str, where: str) -> None:
        """Refuse a model of another kind with a sentence that names the file and both kinds."""
        if self.kind != kind:
            raise ModelError(f"{where}: this is a model of kind '{self.kind}', but '{kind}' is needed here")

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps(to_json(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str = "model card") -> ModelCard:
        """Read a card.

        Args:
            text: JSON text.
            where: the file, for messages.

        Raises:
            ModelError: not JSON, of an unknown schema, or malformed.
        """
        try:
            value = load_json(text)
            schema = value["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{where}: the model card is not readable ({error}); export the model again") from error
        if schema != SCHEMA:
            raise ModelError(
                f"{where}: model card of schema {schema!r}, this gloam reads {SCHEMA}; update gloam or export again"
            )
        try:
            return fill_dataclass(cls, value, "card")
        except UsageError as error:
            raise ModelError(f"{where}: the model card is malformed ({error}); export the model again") from error
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)
