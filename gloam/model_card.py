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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.errors import IncompatibleError, ModelError, UsageError
from gloam.files import load_json, sha256_json
from gloam.padding import LARGEST_SIDE, PaddingProfile
from gloam.record import Written, fill_dataclass, sparse, to_json

SCHEMA = 1
METADATA_KEY = "gloam.card"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MOST_CLIP, MOST_TILES = 1e4, 256  # of CLAHE; more tiles take more memory than the image
MOST_VALUES = 1 << 20  # of a descriptor, or of a self-test's output
MOST_KEYPOINTS = 1 << 16  # of an image
MOST_PIXELS = 1 << 24  # of a self-test's images
LOOSEST = 0.25  # tolerance of a self-test; outputs are of size 1
KEYPOINT_OUTPUTS = ("keypoints", "scores", "descriptors", "count")
KINDS = ("embedder", "local_features", "matcher", "translator", "appearance", "edges", "fused")
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2}  # of a descriptor's self-test


@dataclass(frozen=True)
class TensorSpec(Written):
    """One input or output. ``shape`` mixes ints and names of free axes, e.g. ``("batch", "height", "width", 3)``; a
    matcher's are ``keypoints0`` and ``keypoints1``, whose padded numbers stand where sizes of images have height and
    width.

    ``default`` is of an input that whoever runs the model may leave to it: the values of its last axis, or one for all
    of them. ``choices`` are others by name, such as those of the domains that a translator goes towards.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str
    default: tuple[float, ...] | None = sparse(None)
    choices: Mapping[str, Sequence[float]] | None = sparse(None)

    def filled(self, batch: int, height: int, width: int) -> npt.NDArray[Any]:
        """The default at one batch and size.

        Raises:
            ModelError: there is none.
        """
        if self.default is None:
            raise ModelError(f"the input {self.name!r} has no default; give it")
        shape = self.sized(batch, height, width, "model card")
        return np.broadcast_to(np.asarray(self.default, self.dtype), shape).copy()

    def sized(self, batch: int, height: int, width: int, where: str) -> tuple[int, ...]:
        """The shape at one batch and size.

        Raises:
            ModelError: a free axis of another name; ``where`` begins the message.
        """
        axes = {"batch": batch, "height": height, "width": width, "keypoints0": height, "keypoints1": width}
        for axis in self.shape:
            if isinstance(axis, str) and axis not in axes:
                raise ModelError(f"{where}: the axis {axis!r} of {self.name!r} has no place in an engine's shapes")
        return tuple(axes[axis] if isinstance(axis, str) else int(axis) for axis in self.shape)


@dataclass(frozen=True)
class InputRule(Written):
    """How whoever feeds a model brings a decoded image to the size that the model sees; by default as the literature.

    Attributes:
        max_side: longer side in pixels that larger images are reduced to; None for no limit.
        stretch: exact (width, height) in pixels, whatever the aspect; excludes ``max_side``.
        filter: of the resizing: ``lanczos`` (Pillow's, of three lobes and antialiased) for ``max_side``, ``area``
            (OpenCV's INTER_AREA) for ``stretch``, ``none`` for native sizes. Or what a network's authors resize by:
            ``bilinear`` or ``bicubic``, Pillow's, antialiased too.
        enlarge: whether smaller images are enlarged: only by ``stretch``.
        multiple: behind ``max_side`` both sides become the nearest multiple of this many pixels (a half goes to the
            even number of them; at least one, and none above ``max_side``), by the same one resizing; a patch of a
            vision transformer.

    Raises:
        UsageError: values that do not belong together, or that this gloam cannot follow.
    """

    max_side: int | None = 1024
    stretch: tuple[int, int] | None = None
    filter: Literal["lanczos", "area", "none", "bilinear", "bicubic"] = "lanczos"
    enlarge: bool = False
    multiple: int = sparse(1)

    def __post_init__(self) -> None:
        if self.max_side is not None and self.stretch is not None:
            raise UsageError("--stretch and --max-side exclude each other")
        if not 1 <= self.multiple <= LARGEST_SIDE or (self.stretch is not None and self.multiple > 1):
            raise UsageError(
                f"input rule: sides that are multiples of {self.multiple} px, where they are {self._size()}"
            )
        sides = [side for side in (self.max_side, *(self.stretch or ())) if side is not None]
        if any(side < SMALLEST_SIDE for side in sides):
            raise UsageError(f"image sides must be {SMALLEST_SIDE} pixels or more")
        if self.stretch and self.stretch[0] * self.stretch[1] > MOST_STRETCHED:
            raise UsageError(f"{self._size()} is more than {MOST_STRETCHED} pixels; choose fewer")
        native = self.max_side is None and self.multiple == 1
        fits = ("area", True) if self.stretch else ("none" if native else "lanczos", False)
        others = () if native and not self.stretch else ("bilinear", "bicubic")
        if (self.filter, self.enlarge) != fits and (self.filter not in others or self.enlarge != fits[1]):
            raise UsageError(
                f"input rule: filter {self.filter!r} with enlarge {self.enlarge} where {self._size()} takes "
                f"{fits[0]!r} with {fits[1]}"
            )

    @classmethod
    def of(cls, max_side: int | None = None, stretch: tuple[int, int] | None = None) -> InputRule:
        """The rule of a longer side or of an exact (width, height), in pixels; of native sizes without either."""
        if stretch is not None:
            return cls(max_side, stretch, "area", True)
        return cls(max_side) if max_side else NATIVE

    def sized(self, max_side: int | None = None, stretch: tuple[int, int] | None = None) -> InputRule:
        """The rule of other sizes for the model whose own this is; by :meth:`of`, but in the same multiples."""
        if self.multiple == 1 or stretch is not None:
            return InputRule.of(max_side, stretch)
        return replace(self, max_side=max_side or None)

    @property
    def of_pillow(self) -> bool:
        """Whether it asks for more than a longer side by LANCZOS or a stretch by area."""
        return self.multiple > 1 or self.filter in ("bilinear", "bicubic")

    def __str__(self) -> str:
        return f"{self._size()} ({self.filter}, {'enlarges' if self.enlarge else 'never enlarges'})"

    def _size(self) -> str:
        if self.stretch is not None:
            return f"exactly {self.stretch[0]}x{self.stretch[1]} px"
        size = "native sizes" if self.max_side is None else f"longer side of at most {self.max_side} px"
        return size if self.multiple == 1 else f"{size}, both to the nearest multiple of {self.multiple} px"


SMALLEST_SIDE = 32  # pixels; below this a stride-32 network has no cell left
MOST_STRETCHED = 120_000_000  # pixels, as many as an image may have
LITERATURE = InputRule()
NATIVE = InputRule(None, None, "none")


@dataclass(frozen=True)
class Photometric:
    """Normalisation of an image's light before the network.

    Attributes:
        name: ``none`` or ``clahe`` (CLAHE on the L channel of Lab).
        clip, grid: CLAHE's clip limit and tiles per side.
        baked: True where the graph does it; False where the caller does, on the decoded image.
    """

    name: Literal["none", "clahe"] = "none"
    clip: float | int = 1.0  # the Dark Side paper's embedders; an int stays one, for the space is of what is written
    grid: int = 8
    baked: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.clip <= MOST_CLIP and 1 <= self.grid <= MOST_TILES):
            raise UsageError(
                f"CLAHE with clip limit {self.clip:g} and {self.grid} tiles a side; a limit of 0 to {MOST_CLIP:g} and "
                f"1 to {MOST_TILES} tiles are possible"
            )


@dataclass(frozen=True)
class KeypointRule(Written):
    """Where the keypoints of a file of local features are counted from, and which of them it gives.

    Attributes:
        frame: ``stored``: pixels of the image as its file stores it, before an EXIF orientation turns it. A caller who
            turns images first gets keypoints of the turned ones.
        origin: x and y of the centre of the first pixel; COLMAP's cameras have it at 0.5.
        count: keypoints that the outputs have room for; the output ``count`` says how many there are.
        threshold: of a keypoint's score; 0 for the strongest, whatever they score.

    Raises:
        UsageError: values that no file has.
    """

    count: int
    threshold: float = 0.0
    frame: Literal["stored"] = "stored"
    origin: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_KEYPOINTS:
            raise UsageError(f"{self.count} keypoints; 1 to {MOST_KEYPOINTS} of an image are possible")
        if not 0 <= self.threshold <= 1e6:
            raise UsageError(f"a keypoint's score of at least {self.threshold:g}; the threshold is 0 or more")
        if self.frame != "stored" or not -1 <= self.origin <= 1:
            raise UsageError(f"keypoints in the frame {self.frame!r} from {self.origin:g}, unknown to this gloam")


@dataclass(frozen=True)
class FeatureRule(Written):
    """The local features that a matcher takes.

    Attributes:
        name: of the network that gives them, e.g. ``aliked``, or ``sift``.
        dimension: of a descriptor, which has unit length.
        oriented: whether scales and orientations come with them.
        origin: coordinate of the first pixel's centre in the keypoints: 0 where keypoints count in pixels, 0.5
            where they count in the frame of COLMAP's intrinsics.
    """

    name: str
    dimension: int
    oriented: bool = sparse(False)
    origin: float = sparse(0.0)

    def __str__(self) -> str:
        oriented = ", with scales and orientations" if self.oriented else ""
        return f"{self.name}, {self.dimension}-D{oriented}, the first pixel's centre at {self.origin:g}"


def matcher_inputs(takes: FeatureRule) -> tuple[TensorSpec, ...]:
    """What the graph of a matcher takes: of the first image everything with a 0 behind its name, of the second a 1."""
    place = f"x, y in pixels, the first pixel's centre at {takes.origin:g}"
    specs = [
        *_of_both("keypoints", (2,), place),
        *_of_both("descriptors", (takes.dimension,), "of unit length"),
        *(TensorSpec(f"sizes{at}", "int32", ("batch", 2), "height and width of the image") for at in (0, 1)),
        TensorSpec("counts", "int32", ("batch", 2), "keypoints of either image; what stands behind them is no matter"),
    ]
    if takes.oriented:
        specs += [*_of_both("scales", (), "diameter, pixels"), *_of_both("orientations", (), "radians")]
    return tuple(specs)


def _of_both(name: str, last: tuple[int, ...], meaning: str) -> list[TensorSpec]:
    return [TensorSpec(f"{name}{at}", "float32", ("batch", f"keypoints{at}", *last), meaning) for at in (0, 1)]


@dataclass(frozen=True)
class SelfTest(Written):
    """An input by closed formula and the output the model must give for it, both by
    ``gloam.runtime.backends.selftest_formulas``.

    Attributes:
        shape: batch, height and width of the input (padded height and width for a fixed profile); of a matcher pairs
            and padded numbers of keypoints of the first and the second image.
        sizes: valid (h, w) of each image; equal to height and width for ``dynamic``. Of a matcher the numbers of
            keypoints of each pair.
        output: flat float values in C order: ``[B, D]`` for descriptors, ``[B, D]`` of ``weighted_mean`` for
            local features, ``[B, 10 + 3 D]`` of ``keypoint_summary`` for keypoints, ``[B, 8, 8, C]`` of
            ``block_means`` for images and ``[B, 8, 8]`` for maps, ``[B, 2, K]`` of ``matched_scores`` for
            matches.
        tolerance: largest allowed absolute difference, by precision.
    """

    shape: tuple[int, int, int]
    sizes: tuple[tuple[int, int], ...]
    output: tuple[float, ...]
    tolerance: Mapping[str, float] = field(default_factory=lambda: dict(TOLERANCE))

    def described(self, kind: str) -> str:
        """What is fed to a model of a kind, in words."""
        batch, height, width = self.shape
        if kind == "matcher":
            return f"a batch of {batch} pairs of {height} and {width} keypoints"
        return f"a batch of {batch} images of {width}x{height} px"


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
        """The card of the same model fed with images of other sizes (another space).

        Raises:
            UsageError: any size for a graph that resizes images itself.
        """
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


def space_read_by(space: str, rule: InputRule) -> str:
    """The space of images resized by ``rule``, from the space of images resized as the literature does, which is what
    files and stores that state no rule have."""
    return space if rule == LITERATURE else sha256_json({"space": space, "input_rule": to_json(rule)})


def expect_same_space(
    expected: str, found: str, where: str, rules: tuple[InputRule | None, InputRule | None] = (None, None)
) -> None:
    """Refuse descriptors of another space; ``rules`` are those by which the images of the expected and of the found
    ones were resized, where they are known."""
    if expected == found:
        return
    if None not in rules and rules[0] != rules[1]:
        raise IncompatibleError(
            f"{where}: descriptors of space {found[:12]}, of images read at {rules[1]}, but {expected[:12]} is needed, "
            f"of images read at {rules[0]}; extract them again alike, by the model's own rule or one --max-side"
        )
    raise IncompatibleError(
        f"{where}: descriptors of space {found[:12]}, but {expected[:12]} is needed; "
        "they come from another model or normalisation and cannot be compared, extract them again"
    )


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)
