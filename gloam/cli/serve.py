"""``gloam serve``: descriptors, search and poses over HTTP, and a page to try them."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.values import nbytes

HELP = "answer over HTTP: embed, search and localize images; with a web page to drop a photograph on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--model", type=Path, required=True, help="embedder, alone or fused with a translator: .onnx or engine folder"
    )
    parser.add_argument("--index", type=Path, metavar="FOLDER", help="of `gloam index`, for /v1/search")
    parser.add_argument("--map", type=Path, metavar="FOLDER", help="of `gloam localize --save-map`, for /v1/localize")
    parser.add_argument("--extractor", type=Path, metavar="MODEL", help="the map's local features, if by a model")
    parser.add_argument("--matcher", type=Path, metavar="MODEL", help="the map's matcher, if it has one")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="of the map's images, to be shown beside a query")
    add_trust(parser, "index and map")
    address = parser.add_argument_group("who may ask")
    address.add_argument("--host", default="127.0.0.1", help="address; the default is reached from this machine alone")
    address.add_argument("--port", type=int, default=8000, help="0 takes a free one, which stderr names")
    address.add_argument(
        "--api-keys", type=Path, metavar="FILE", help="keys, one a line; a request then needs one of them"
    )
    address.add_argument("--open", action="store_true", help="let whoever reaches the address ask without a key")
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=nbytes, default=nbytes("16MiB"), metavar="SIZE", help="of an image file (default: 16MiB)"
    )
    limits.add_argument(
        "--max-memory",
        type=nbytes,
        default=nbytes("512MiB"),
        metavar="SIZE",
        help="of all bodies at once (default: 512MiB); beyond it requests are refused with 503",
    )
    limits.add_argument("--max-pixels", type=int, default=40_000_000, metavar="N", help="of an image")
    limits.add_argument("--upload-timeout", type=float, default=30.0, metavar="S", help="seconds for a body to come")
    limits.add_argument("--answer-timeout", type=float, default=60.0, metavar="S", help="seconds from there on")
    limits.add_argument(
        "--queue", type=int, default=256, metavar="N", help="requests at once; one more is refused with 503"
    )
    limits.add_argument("--batch", type=int, default=16, metavar="N", help="images that a GPU is given at once")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Answer until Ctrl-C or SIGTERM."""
    from gloam.runtime.serve.options import Limits, ServeRequest
    from gloam.runtime.serve.run import serve

    limits = Limits(
        body=arguments.max_body,
        memory=arguments.max_memory,
        pixels=arguments.max_pixels,
        upload=arguments.upload_timeout,
        answer=arguments.answer_timeout,
        queue=arguments.queue,
        batch=arguments.batch,
    )
    served = serve(filled(ServeRequest, arguments, limits=limits, placement=placement(arguments)))
    return Report(served.to_dict(), str(served))
