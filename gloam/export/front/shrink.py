"""A graph that reduces an image as the decoder does: longer side to a given length by LANCZOS, never enlarged.

ONNX's own Resize has no LANCZOS. On webcam photographs its ``antialias=1`` costs a descriptor (ImageNet MobileNetV2
with GeM) up to 0.027 of cosine with ``linear`` and 0.006 with ``cubic``; this graph costs 2e-6. It computes Pillow's
filter as matrix products: a block of output cells reads a window of input cells that reaches three output cells beyond
it, so that an axis costs a narrow band of products and not the whole square. The width is reduced first, then the
height, each rounded to whole levels, as Pillow does. (Pillow begins with the height where an image is more than twice
as tall as wide: there a quarter of the values differ, by a level.)
"""

from __future__ import annotations

from string import Template
from typing import Any

from gloam.errors import require
from gloam.export.graph import OPSET

BLOCK = 32  # output cells of a product: fewer would share more of their windows, more would multiply by more zeros
REACH = 3  # output cells that LANCZOS reads on each side

# The sizes are Pillow's thumbnail: the whole number beside the exact short side whose aspect is nearest.
_GRAPH = Template("""
<ir_version: 10, opset_import: ["": $opset]>
shrink (uint8[batch, height, width, 3] images) => (float[batch, resized_height, resized_width, 3] resized)
<
    int64 zero = {0}, int64 one = {1}, int64 block = {$block}, int64 block_less_one = {$block_less_one},
    int64[1] first = {0}, int64[1] second = {1}, int64[1] third = {2}, int64[1] colours = {3}, int64[1] rest = {-1},
    int64[1] two = {2}, int64[1] unit = {1}, int64[1] limit = {$max_side}, int64[$block] in_block = {$cells},
    float none = {0.0}, float half = {0.5}, float tiny = {0.000001}, float white = {255.0}, float pi = {3.14159265},
    float reach = {$reach.0}, float span = {$span.0}, float ends = {2.0}
>
{
    batch_count = Shape <start = 0, end = 1> (images)
    size = Shape <start = 1, end = 3> (images)
    h_in = Gather (size, first)
    w_in = Gather (size, second)
    longer = Max (h_in, w_in)
    shorter = Min (h_in, w_in)
    long_out = Min (longer, limit)
    area = Mul (long_out, shorter)
    below = Div (area, longer)
    above = Add (below, unit)
    both = Add (below, above)
    wide_area = Mul (area, both)
    product = Mul (below, above)
    twice = Mul (product, two)
    wide_bound = Mul (twice, longer)
    wide_up = Greater (wide_area, wide_bound)
    wide_step = Cast <to = 7> (wide_up)
    tall_area = Mul (area, two)
    tall_bound = Mul (both, longer)
    tall_up = Greater (tall_area, tall_bound)
    tall_step = Cast <to = 7> (tall_up)
    wide = GreaterOrEqual (w_in, h_in)
    step = Where (wide, wide_step, tall_step)
    nearest = Add (below, step)
    short_out = Max (nearest, unit)
    h_out = Where (wide, short_out, long_out)
    w_out = Where (wide, long_out, short_out)

    colours_float = Cast <to = 1> (images)
    turned = Transpose <perm = [0, 2, 1, 3]> (colours_float)
    columns_shape = Concat <axis = 0> (batch_count, w_in, rest)
    columns = Reshape (turned, columns_shape)
$columns_pass
    narrow_shape = Concat <axis = 0> (batch_count, w_out, h_in, colours)
    narrow = Reshape (w_levels, narrow_shape)
    upright = Transpose <perm = [0, 2, 1, 3]> (narrow)
    lines_shape = Concat <axis = 0> (batch_count, h_in, rest)
    lines = Reshape (upright, lines_shape)
$rows_pass
    resized_shape = Concat <axis = 0> (batch_count, h_out, w_out, colours)
    resized = Reshape (h_levels, resized_shape)
}
""")

# ``$values`` [batch, cells, rest] to ``$(axis)_levels`` [batch, fewer cells, rest].
_PASS = Template("""
    ${a}inputs = Squeeze (${a}in)
    ${a}outputs = Squeeze (${a}out)
    ${a}inputs_float = Cast <to = 1> (${a}inputs)
    ${a}outputs_float = Cast <to = 1> (${a}outputs)
    ${a}scale = Div (${a}inputs_float, ${a}outputs_float)
    ${a}up = Add (${a}outputs, block_less_one)
    ${a}blocks = Div (${a}up, block)
    ${a}block_index = Range (zero, ${a}blocks, one)
    ${a}block_start = Mul (${a}block_index, block)
    ${a}block_column = Unsqueeze (${a}block_start, second)
    ${a}cells = Add (${a}block_column, in_block)
    ${a}cells_float = Cast <to = 1> (${a}cells)
    ${a}middles = Add (${a}cells_float, half)
    ${a}centres = Mul (${a}middles, ${a}scale)

    ${a}margin = Mul (${a}scale, reach)
    ${a}first_centre = Gather <axis = 1> (${a}centres, first)
    ${a}before = Sub (${a}first_centre, ${a}margin)
    ${a}start = Floor (${a}before)
    ${a}spanned = Mul (${a}scale, span)
    ${a}spanned_up = Ceil (${a}spanned)
    ${a}window_float = Add (${a}spanned_up, ends)
    ${a}window = Cast <to = 7> (${a}window_float)
    ${a}in_window = Range (zero, ${a}window, one)
    ${a}in_window_float = Cast <to = 1> (${a}in_window)
    ${a}places = Add (${a}start, ${a}in_window_float)
    ${a}border = Sub (${a}inputs_float, half)
    ${a}within = Less (${a}places, ${a}border)
    ${a}not_before = GreaterOrEqual (${a}places, none)
    ${a}real = And (${a}within, ${a}not_before)
    ${a}last = Sub (${a}inputs, one)
    ${a}places_whole = Cast <to = 7> (${a}places)
    ${a}index = Clip (${a}places_whole, zero, ${a}last)

    ${a}place_middles = Add (${a}places, half)
    ${a}place_row = Unsqueeze (${a}place_middles, second)
    ${a}centre_column = Unsqueeze (${a}centres, third)
    ${a}offset = Sub (${a}place_row, ${a}centre_column)
    ${a}offset_scaled = Div (${a}offset, ${a}scale)
    ${a}distance_zero = Abs (${a}offset_scaled)
    ${a}distance = Max (${a}distance_zero, tiny)
    ${a}reached = Less (${a}distance, reach)
    ${a}real_row = Unsqueeze (${a}real, second)
    ${a}counts = And (${a}reached, ${a}real_row)
    ${a}angle = Mul (${a}distance, pi)
    ${a}sine = Sin (${a}angle)
    ${a}slow_angle = Div (${a}angle, reach)
    ${a}slow_sine = Sin (${a}slow_angle)
    ${a}numerator = Mul (${a}sine, ${a}slow_sine)
    ${a}denominator = Mul (${a}angle, ${a}slow_angle)
    ${a}lanczos = Div (${a}numerator, ${a}denominator)
    ${a}counted = Where (${a}counts, ${a}lanczos, none)
    ${a}total = ReduceSum <keepdims = 1> (${a}counted, third)
    ${a}total_positive = Max (${a}total, tiny)
    ${a}weights = Div (${a}counted, ${a}total_positive)

    ${a}read = Gather <axis = 1> ($values, ${a}index)
    ${a}sums = MatMul (${a}weights, ${a}read)
    ${a}line = Shape <start = 3, end = 4> (${a}sums)
    ${a}flat_shape = Concat <axis = 0> (batch_count, rest, ${a}line)
    ${a}flat = Reshape (${a}sums, ${a}flat_shape)
    ${a}kept = Slice (${a}flat, first, ${a}out, second)
    ${a}rounded = Round (${a}kept)
    ${a}levels = Clip (${a}rounded, none, white)
""")


def shrinking_graph(max_side: int) -> Any:
    """The graph as a ``ModelProto``.

    Args:
        max_side: longer side behind it, pixels; smaller images keep their size.

    Returns:
        input ``images`` uint8 ``[B, H, W, 3]``, output ``resized`` float32 ``[B, h, w, 3]``, whole numbers in 0..255.
    """
    parser = require("onnx.parser", "train", "export a model")
    text = _GRAPH.substitute(
        opset=OPSET,
        max_side=max_side,
        block=BLOCK,
        block_less_one=BLOCK - 1,
        cells=", ".join(map(str, range(BLOCK))),
        reach=REACH,
        span=BLOCK - 1 + 2 * REACH,
        columns_pass=_PASS.substitute(a="w_", values="columns"),
        rows_pass=_PASS.substitute(a="h_", values="lines"),
    )
    return parser.parse_model(text)
