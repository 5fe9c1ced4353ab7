"""``gloam import``: a public checkpoint to gloam's own format."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import key_value

HELP = "convert a public checkpoint (embedder, translator, edges, local features, matcher) or whitening to gloam's own"
# Equal to the library's FORMATS, by a test.
FAMILIES = (
    *("auto", "resnet", "unet", "cyeda", "hed", "rcf", "todaygan", "drit", "adain"),
    *("cirtorch", "how", "netvlad", "ciconv", "dinov2", "dinov2_timm"),
    *("salad", "megaloc", "boq", "mixvpr", "cosplace", "apgem"),
    *("aliked", "alike", "xfeat", "disk", "superpoint", "r2d2"),
    *("lightglue_superpoint", "lightglue_disk", "lightglue_aliked", "lightglue_sift", "lightglue_doghardnet"),
    "lighterglue",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("weights", type=Path, help=".pth, .pt, .tar, .pytorch, .mat, .h5, .safetensors or *_lw.pkl")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help=".safetensors file to write; .npz for a whitening"
    )
    parser.add_argument(
        "--as",
        dest="family",
        choices=FAMILIES,
        default="auto",
        help="what the file holds: resnet (CycleGAN, CUT), unet (pix2pix), cyeda, hed, rcf, todaygan, drit, adain; an "
        "embedder: cirtorch, how, netvlad, ciconv, dinov2, dinov2_timm (timm's file of it), salad, megaloc, boq, "
        "mixvpr, cosplace (EigenPlaces too), apgem; local features: aliked, alike, xfeat, disk, superpoint, r2d2; "
        "or a matcher: LightGlue by its features, lighterglue; auto for gandtr's files, embedders, local features and "
        "matchers, which say it themselves",
    )
    parser.add_argument(
        "--decoder",
        type=Path,
        help="todaygan: decoder of the target domain (released night-to-day: 2); adain: its decoder",
    )
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="drit: which way to translate")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="option of the network in place of what the file shows, e.g. padding=replicate, input_scale=1; repeatable",
    )
    parser.add_argument(
        "--whitening", type=Path, metavar="FILE", help="embedders: its whitening (*_lw.pkl), written beside as .npz"
    )
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the checkpoint")


def run(arguments: argparse.Namespace) -> Report:
    """Convert and list what was decided and left out."""
    from gloam.networks.foreign.convert import ImportRequest, import_weights

    found = import_weights(filled(ImportRequest, arguments, options=dict(arguments.option)))
    return Report(found.to_dict(), str(found))
