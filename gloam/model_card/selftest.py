"""The self-tests that a card holds, and their formulas as data, which programs in any language compute alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gloam.errors import UsageError
from gloam.record import Written, sparse

MOST_VALUES = 1 << 20  # of a descriptor, or of a self-test's output
MOST_PIXELS = 1 << 24  # of a self-test's images
LOOSEST = 0.25  # tolerance of a self-test; outputs are of size 1
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2}  # of a descriptor's self-test
MOST_OF_FORMULA = 1 << 20  # a factor, divisor or modulus, so that sums stay within 64 bits
MOST_FACTORS = 4  # of a term
MOST_FEATURES = 1 << 12  # of a matcher's self-test
Digest = Literal["rows", "block_means", "weighted_mean", "keypoint_summary", "matched_scores"]


@dataclass(frozen=True)
class SelfTest(Written):
    """An input by closed formula, see :class:`SelfTestFormula`, and the output the model must give for it.

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
class Formula(Written):
    """``((sum of terms) // floor % modulo + add) * times / over``: whole numbers up to ``add``, then float64.

    Attributes:
        terms: factor by the letters of the variables that it multiplies: ``{"xx": 3, "b": 37}`` is 3 x x + 37 b, and
            the factor of ``""`` stands alone. None is negative.

    Raises:
        UsageError: values that no formula has.
    """

    terms: Mapping[str, int]
    modulo: int
    floor: int = 1
    add: int = 0
    times: float = 1.0
    over: float = 1.0

    def __post_init__(self) -> None:
        whole = (*self.terms.values(), self.floor, self.modulo, abs(self.add))
        if not self.terms or any(type(value) is not int or not 0 <= value <= MOST_OF_FORMULA for value in whole):
            raise UsageError(f"a formula's numbers are whole ones from 0 to {MOST_OF_FORMULA}")
        if max(map(len, self.terms)) > MOST_FACTORS or not (self.floor and self.modulo):
            raise UsageError(f"a formula has terms of at most {MOST_FACTORS} variables and divides by no 0")
        if not (0 < self.over < math.inf and 0 < self.times < math.inf):
            raise UsageError("a formula's scale is a positive number")

    def values(self, **variables: Any) -> Any:
        """The formula's value.

        Args:
            variables: by their letters, whole numbers or arrays of them.

        Returns:
            a number, or an array of them as the variables' broadcasting gives it.
        """
        total: Any = 0
        for letters, factor in self.terms.items():
            total = total + math.prod((variables[letter] for letter in letters), start=factor)
        whole = total // self.floor % self.modulo + self.add
        return whole if self.times == self.over == 1 else whole * self.times / self.over


@dataclass(frozen=True)
class FeatureFormula(Written):
    """The features that a matcher is tested with: so many of them, of which each of two images shows some.

    Attributes:
        number: of features g, beginning with 0; keypoint i of an image is feature ``order[image]`` of i.
        order: of either image; of i.
        x, y: place in the first image in pixels, of g and b, the number of the pair.
        shift: added to the place, of either image.
        descriptor: value j, of g, j and b; to which ``blend`` times the value of feature g + 1 (of the last, of the
            first) is added; all of it brought to unit length.
        blend: of either image.
        scale, orientation: of g, where the matcher takes them.
        sizes: height and width of either image.
        beyond: what stands behind the last keypoint throughout.
    """

    number: int
    order: tuple[Formula, Formula]
    x: Formula
    y: Formula
    shift: tuple[tuple[int, int], tuple[int, int]]
    descriptor: Formula
    blend: tuple[float, float]
    scale: Formula
    orientation: Formula
    sizes: tuple[tuple[int, int], tuple[int, int]]
    beyond: float

    def __post_init__(self) -> None:
        if not 1 <= self.number <= MOST_FEATURES:
            raise UsageError(f"a self-test of {self.number} features; 1 to {MOST_FEATURES} are possible")
        for order in self.order:
            if not 0 <= order.add <= self.number - order.modulo or not order.times == order.over == 1:
                raise UsageError(f"an order of features that are none of the {self.number}")
        _expect_variables(self.order, "i")
        _expect_variables((self.x, self.y), "gb")
        _expect_variables((self.descriptor,), "gjb")
        _expect_variables((self.scale, self.orientation), "g")


@dataclass(frozen=True)
class SelfTestFormula(Written):
    """What a card's self-tests feed, and what they keep of the outputs: with it a program without gloam runs them.

    Attributes:
        digest: what is kept, a row an image or pair: ``rows``, the first output as it is; or what the function of that
            name in ``gloam.runtime.backends.selftest_formulas`` computes.
        images: value of image b at column x, row y and channel c; in a card of images.
        beyond: value of every pixel beyond an image's valid size.
        conditions: value k, in C order, of image b in each input whose default is one number. An input whose default
            is of K numbers gets, for image b, its default turned: ``default[(k - b) % K]``.
        features: in a card of a matcher.
    """

    digest: Digest
    images: Formula | None = sparse(None)
    beyond: int = 255
    conditions: Formula | None = sparse(None)
    features: FeatureFormula | None = sparse(None)

    def __post_init__(self) -> None:
        if (self.digest == "matched_scores") != (self.features is not None) or not (self.images or self.features):
            raise UsageError("a self-test is of images, or of features and matched scores")
        if not 0 <= self.beyond <= 255:
            raise UsageError(f"pixels of {self.beyond} beyond an image")
        _expect_variables((self.images,), "bxyc")
        _expect_variables((self.conditions,), "bk")


def _expect_variables(formulas: tuple[Formula | None, ...], variables: str) -> None:
    for formula in formulas:
        if formula is not None and (unknown := set("".join(formula.terms)) - set(variables)):
            raise UsageError(f"a formula of {min(unknown)!r}; this one is of {', '.join(variables)}")


IMAGES = Formula({"xx": 3, "yy": 5, "xy": 7, "b": 37, "c": 59}, floor=97, modulo=256)
CONDITIONS = Formula({"kk": 3, "k": 7, "b": 37}, modulo=97, add=-48, over=24.0)
FEATURES = FeatureFormula(
    number=67,  # a prime, so that the second image's order has them all
    order=(Formula({"i": 1}, modulo=67), Formula({"i": 7, "": 2}, modulo=67)),
    x=Formula({"gg": 3, "g": 7, "b": 31}, modulo=440, add=20),
    y=Formula({"gg": 5, "g": 11, "b": 17}, modulo=420, add=20),
    shift=((0, 0), (3, -2)),
    descriptor=Formula({"gg": 3, "jj": 5, "gj": 7, "ggjj": 1, "b": 37}, floor=3, modulo=97, add=-48),
    blend=(0.0, 0.1),
    scale=Formula({"g": 1}, modulo=7, add=2),
    orientation=Formula({"g": 1}, modulo=11, add=-5, times=math.pi, over=10.0),
    sizes=((480, 640), (500, 490)),
    beyond=9999.0,
)


def formula_of_kind(kind: str, keypoints: bool = False, conditions: bool = False) -> SelfTestFormula:
    """The formula of the self-tests that exports make, which holds for cards that state none, too.

    Args:
        kind: of the card.
        keypoints: whether its outputs are keypoints.
        conditions: whether it has inputs with a default.
    """
    if kind == "matcher":
        return SelfTestFormula("matched_scores", features=FEATURES)
    digest: Digest = "rows"
    if kind in ("translator", "edges"):
        digest = "block_means"
    elif kind == "local_features":
        digest = "keypoint_summary" if keypoints else "weighted_mean"
    return SelfTestFormula(digest, IMAGES, conditions=CONDITIONS if conditions else None)
