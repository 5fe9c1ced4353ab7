"""The translators' padding rule as graphs: continue an image by reflection to the next multiple, and cut it out again.

The host's route is :func:`gloam.padding.reflect_pad` and :func:`gloam.padding.crop_back`; these gather the same pixels.
``dynamic`` graphs take images of one size and add what is needed to the next multiple of both sides. ``fixed`` graphs
take images of mixed sizes in the top-left corners of a batch whose sides are the next multiple already; under the rule
``center`` they move each to the centre, and back.
"""

from __future__ import annotations

from string import Template
from typing import Any

from gloam.errors import require
from gloam.export.graph import OPSET
from gloam.padding import Anchor

# Where a place beyond 0..side - 1 lands after as many reflections as it needs; a side of one pixel is repeated.
_REFLECT = Template("""
    ${a}less = Sub (${a}side, one)
    ${a}twice = Mul (${a}less, two)
    ${a}period = Max (${a}twice, one)
    ${a}folded = Mod (${a}place, ${a}period)
    ${a}mirrored = Sub (${a}period, ${a}folded)
    ${a}near = Min (${a}folded, ${a}mirrored)
    ${a}source = Min (${a}near, ${a}less)
""")
_NEXT = Template("""
    ${a}side = Squeeze (${a}in)
    ${a}least = Max (${a}side, minimum)
    ${a}up = Add (${a}least, multiple_less_one)
    ${a}count = Div (${a}up, multiple)
    ${a}whole = Mul (${a}count, multiple)
""")
# Of each place of the padded side, its place in the image; negative before it.
_PLACES = {
    "center": Template("""
    ${a}added = Sub (${a}whole, ${a}side)
    ${a}corner = Div (${a}added, two)
    ${a}places = Range (zero, ${a}whole, one)
    ${a}place = Sub (${a}places, ${a}corner)
"""),
    "top-left": Template("""
    ${a}place = Range (zero, ${a}whole, one)
"""),
}
# Cast first, in every graph here: engines take uint8 as an input alone.
_PAD_DYNAMIC = Template("""
<ir_version: 10, opset_import: ["": $opset]>
pad (uint8[batch, height, width, 3] images) => (float[batch, padded_height, padded_width, 3] padded)
<
    int64 zero = {0}, int64 one = {1}, int64 two = {2},
    int64 multiple = {$multiple}, int64 multiple_less_one = {$multiple_less_one}, int64 minimum = {$minimum}
>
{
    h_in = Shape <start = 1, end = 2> (images)
    w_in = Shape <start = 2, end = 3> (images)
$h_next$w_next$h_places$w_places$h_reflect$w_reflect
    levels = Cast <to = 1> (images)
    tall = Gather <axis = 1> (levels, h_source)
    padded = Gather <axis = 2> (tall, w_source)
}
""")
_CROP_DYNAMIC = Template("""
<ir_version: 10, opset_import: ["": $opset]>
crop (uint8[batch, height, width, 3] images, float[batch, padded_height, padded_width, 3] translated)
    => (float[batch, height, width, 3] cropped)
<
    $corner, int64[2] axes = {1, 2},
    float one = {1.0}, float half_range = {127.5}, float none = {0.0}, float white = {255.0}
>
{
    size = Shape <start = 1, end = 3> (images)
$cut
$quantise
}
""")
_CUT = {
    "center": """
    whole = Shape <start = 1, end = 3> (translated)
    added = Sub (whole, size)
    corner = Div (added, two)
    ends = Add (corner, size)
    kept = Slice (translated, corner, ends, axes)
""",
    "top-left": """
    kept = Slice (translated, corner, size, axes)
""",
}
# As the runtime makes pictures of a translator's output.
_QUANTISE = """
    raised = Add (kept, one)
    spread = Mul (raised, half_range)
    rounded = Round (spread)
    cropped = Clip (rounded, none, white)
"""
_CORNER = {"center": "int64 two = {2}", "top-left": "int64[2] corner = {0, 0}"}
# Rows [batch, height] and columns [batch, width] of the source as one index of pixels.
_TAKE = Template("""
    h_start = Mul (h_source, w_whole)
    h_start_column = Unsqueeze (h_start, third)
    w_source_row = Unsqueeze (w_source, second)
    in_image = Add (h_start_column, w_source_row)
    pixels = Mul (h_whole, w_whole)
    image_index = Range (zero, batch_count, one)
    image_start = Mul (image_index, pixels)
    image_start_block = Unsqueeze (image_start, behind)
    index = Add (in_image, image_start_block)
    flat = Reshape ($values, flat_shape)
    $taken = Gather <axis = 0> (flat, index)
""")
_FIXED_START = """
    batch_shape = Shape <start = 0, end = 1> (images)
    batch_count = Squeeze (batch_shape)
    h_shape = Shape <start = 1, end = 2> (images)
    w_shape = Shape <start = 2, end = 3> (images)
    h_whole = Squeeze (h_shape)
    w_whole = Squeeze (w_shape)
    valid = Cast <to = 7> (sizes)
    h_side = Gather <axis = 1> (valid, first)
    w_side = Gather <axis = 1> (valid, second)
"""
_FIXED_NUMBERS = """
    int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] first = {0}, int64[1] second = {1},
    int64[1] third = {2}, int64[2] behind = {1, 2}, int64[2] flat_shape = {-1, 3}
"""
_PAD_FIXED = Template("""
<ir_version: 10, opset_import: ["": $opset]>
pad (uint8[batch, height, width, 3] images, int32[batch, 2] sizes) => (float[batch, height, width, 3] padded)
<$numbers>
{
    levels = Cast <to = 1> (images)
$start$h_places$w_places$h_reflect$w_reflect
$take
}
""")
_CROP_FIXED = Template("""
<ir_version: 10, opset_import: ["": $opset]>
crop (uint8[batch, height, width, 3] images, int32[batch, 2] sizes, float[batch, height, width, 3] translated)
    => (float[batch, height, width, 3] cropped)
<
    float one_level = {1.0}, float half_range = {127.5}, float none = {0.0}, float white = {255.0},$numbers
>
{
$start
    h_added = Sub (h_whole, h_side)
    w_added = Sub (w_whole, w_side)
    h_corner = Div (h_added, two)
    w_corner = Div (w_added, two)
    h_places = Range (zero, h_whole, one)
    w_places = Range (zero, w_whole, one)
    h_place = Add (h_places, h_corner)
    w_place = Add (w_places, w_corner)
    h_last = Sub (h_whole, one)
    w_last = Sub (w_whole, one)
    h_source = Min (h_place, h_last)
    w_source = Min (w_place, w_last)
$take
$quantise
}
""")
_KEEP_FIXED = Template("""
<ir_version: 10, opset_import: ["": $opset]>
crop (float[batch, height, width, 3] translated) => (float[batch, height, width, 3] cropped)
<float one = {1.0}, float half_range = {127.5}, float none = {0.0}, float white = {255.0}>
{
$quantise
}
""")


def padding_graph(fixed: bool, multiple: int, minimum: int, anchor: Anchor = "center") -> Any:
    """Images to what a translator takes, as a ``ModelProto``.

    Args:
        fixed: mixed sizes in a batch whose sides are the next multiple already; else images of one size.
        multiple, minimum: of a padded side, pixels; ``dynamic`` alone.
        anchor: place of the image in what it becomes.

    Returns:
        inputs ``images`` uint8 ``[B, H, W, 3]`` and, where fixed, ``sizes`` int32 ``[B, 2]``; output ``padded``
        float32.
    """
    parts: dict[str, Any] = {f"{a}_reflect": _REFLECT.substitute(a=f"{a}_") for a in "hw"}
    parts |= {f"{a}_places": _PLACES[anchor].substitute(a=f"{a}_") for a in "hw"}
    if fixed:
        take = _TAKE.substitute(values="levels", taken="padded")
        return _parsed(_PAD_FIXED, start=_FIXED_START, numbers=_FIXED_NUMBERS, take=take, **parts)
    parts |= {f"{a}_next": _NEXT.substitute(a=f"{a}_") for a in "hw"}
    return _parsed(_PAD_DYNAMIC, multiple=multiple, multiple_less_one=multiple - 1, minimum=max(minimum, 1), **parts)


def cropping_graph(fixed: bool, anchor: Anchor = "center") -> Any:
    """A translator's output to the images that its input was padded from, as a ``ModelProto``.

    Args:
        fixed, anchor: see :func:`padding_graph`.

    Returns:
        inputs ``images`` and, where fixed, ``sizes`` as before the padding, ``translated`` float32 in [-1, 1], which is
        the only one where nothing is moved; output ``cropped`` float32, whole numbers in 0..255, without meaning beyond
        a valid size.
    """
    if not fixed:
        return _parsed(_CROP_DYNAMIC, cut=_CUT[anchor], corner=_CORNER[anchor], quantise=_QUANTISE)
    if anchor == "top-left":
        return _parsed(_KEEP_FIXED, quantise=_QUANTISE.replace("kept", "translated"))
    take = _TAKE.substitute(values="translated", taken="kept")
    quantise = _QUANTISE.replace("(kept, one)", "(kept, one_level)")
    return _parsed(_CROP_FIXED, start=_FIXED_START, numbers=_FIXED_NUMBERS, take=take, quantise=quantise)


def _parsed(template: Template, **parts: Any) -> Any:
    parser = require("onnx.parser", "train", "export a model")
    return parser.parse_model(template.substitute(opset=OPSET, **parts))
