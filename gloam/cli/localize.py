"""``gloam localize``: poses of query images in a map."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.map_pairs_options import add_limits
from gloam.cli.shared.memory_option import add_memory
from gloam.cli.shared.ray_options import add_cluster, expect_cluster, ray_cluster
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.unread import refuse
from gloam.cli.shared.values import number_or_all, seed
from gloam.errors import UsageError

HELP = "localize queries in a kapture or COLMAP map: pose approximation, local or global structure from motion"
KEPT = ("*/*",)
OF_MATCHES = ("features", "matcher", "matches", "max_keypoints", "pixel_shift", "pixel_origin", "photometric",
              "min_inliers", "query_matches")  # fmt: skip
OF_MAP = ("map_pairs", "map_neighbours", "map_distance", "map_angle")
OF_MODELS = ("device", "threads", "backend", "cpu_precision")
METHODS = ("top1", "ewb", "bdi", "csi", "2a", "2b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--mapping",
        type=Path,
        required=True,
        help="kapture dataset with images, intrinsics and poses, or folder of a COLMAP model, text or binary",
    )
    parser.add_argument(
        "--query",
        type=Path,
        required=True,
        help="kapture dataset with images and intrinsics, hloc's list of 'name MODEL width height parameters', or a "
        "COLMAP model",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="images of a COLMAP model and of a list (default: the folder images beside each)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for poses; the same command resumes")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path, help="pair list query-map, hloc's or kapture's text")
    source.add_argument("--global-features", type=Path, help="kapture global features of queries and map images")
    source.add_argument("--stores", type=Path, nargs=2, metavar=("QUERY", "MAP"), help="stores of `gloam extract`")
    add_trust(parser, "the descriptors of --stores")
    parser.add_argument("--top-k", type=int, default=10, help="map images per query")
    parser.add_argument(
        "--verify",
        type=int,
        metavar="N",
        help="re-rank: of N retrieved map images per query take the --top-k with most verified matches; the new list "
        "is pairs.txt",
    )
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="repeat for several (default: 2b): 1 = top1, ewb, bdi, csi"
    )
    parser.add_argument(
        "--features",
        default="sift",
        metavar="sift|MODEL|H5|DATABASE|FOLDER|TYPE",
        help="'sift', an exported model of local features, hloc's .h5 file or a COLMAP database (.db) of queries and "
        "map, a folder of kapture local features, or the type of those that both datasets hold",
    )
    parser.add_argument(
        "--matcher",
        default="mutual",
        metavar="mutual|MODEL",
        help="'mutual' nearest neighbours, with Lowe's test for SIFT alone, or an exported matcher of the features",
    )
    parser.add_argument(
        "--matches",
        type=Path,
        metavar="H5|FOLDER",
        help="instead of a matcher: hloc's .h5 file or a folder of kapture's matches, of stored features",
    )
    parser.add_argument("--max-keypoints", type=int, default=4096, help="SIFT and models: strongest kept per image")
    parser.add_argument("--pixel-shift", type=float, help="SIFT: 0.5 where a kapture's intrinsics follow COLMAP")
    parser.add_argument(
        "--pixel-origin",
        type=float,
        choices=(0.0, 0.5),
        help="models, hloc's file: where the intrinsics have the centre of the first pixel, 0 (kapture, OpenCV) or 0.5 "
        "(COLMAP); by default 0.5 for a COLMAP model or a list, else told from principal points in the middle, else 0",
    )
    parser.add_argument(
        "--photometric", choices=("none", "clahe"), help="SIFT and models: of the light, instead of the model's own"
    )
    parser.add_argument(
        "--query-matches",
        choices=("verified", "raw"),
        help="by a two-view geometry with each map image, or left to the pose's own RANSAC over all of them (default: "
        "raw with a model's features, verified with others)",
    )
    parser.add_argument(
        "--min-inliers",
        type=int,
        default=12,
        help="correspondences that agree with a pose, at least; no confidence with learned features, whose matches "
        "agree with wrong poses too",
    )
    parser.add_argument(
        "--map-pairs",
        metavar="exhaustive|covisibility|pose|FILE",
        help="pairs of map images for 2b (default: neighbours by covisibility where the map has points, else by pose). "
        "A COLMAP model's own points are used where the features are those it was made of and no pairs are asked for",
    )
    add_limits(parser)
    parser.add_argument(
        "--save-map",
        type=Path,
        metavar="FOLDER",
        help="write the map of 2b with all that gloam.Localizer needs: --stores, and features of sift or a model",
    )
    parser.add_argument(
        "--match-pictures",
        type=number_or_all,
        default=0,
        metavar="N|all",
        help="draw so many queries, evenly chosen, beside the map image that each agrees with best, with lines of "
        "inliers and other matches, into matches/ of 2a and 2b",
    )
    parser.add_argument(
        "--rerun",
        type=Path,
        metavar="FILE.rrd",
        help="write the map, its cameras, the queries' poses and their matches of 2b, or of 2a, for Rerun's viewer",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write report.html: every query, failures first, with inliers, the reason where it has no pose, what was "
        "retrieved, and a picture of its matches",
    )
    parser.add_argument(
        "--rig",
        choices=("off", "fill", "joint"),
        default="off",
        help="queries of cameras on one rig, as their rigs.txt has it: each by itself; those without a pose through "
        "the rig; or all together by one pose",
    )
    parser.add_argument("--workers", type=int, help="threads (default: all cores); changes no result")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what time, disk and memory it takes, by a few images and pairs"
    )
    add_memory(parser)
    tasks = parser.add_argument_group(
        "several tasks into one workspace, e.g. a Slurm array",
        "A task finds features and matches, and says how many pairs are left; then the same command without these "
        "makes map and poses. Datasets, models and output must lie on storage that every task sees",
    )
    tasks.add_argument(
        "--shard-index",
        type=int,
        metavar="I",
        help="of this task, from 0: it takes the images I, I + N, ..., and every N-th block of pairs",
    )
    tasks.add_argument("--num-shards", type=int, metavar="N", help="number of tasks, or of Ray's workers")
    cluster = parser.add_argument_group(
        "on a Ray cluster",
        "run on one of its nodes. Each of --num-shards workers (default: as many as fit) finds features and matches of "
        "a shard; one that dies is replaced. Map and poses are made here, the same as without Ray",
    )
    add_cluster(cluster, "--threads and --workers unless given")
    parser.add_argument("--seed", type=seed, default=0, help="of every random choice")
    parser.add_argument(
        "--ltvl-style", choices=("aachen", "robotcar", "full"), default="full", help="names in ltvl.txt"
    )
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Read the datasets, localize, write poses per method: kapture, LTVL2020, COLMAP text and CSV."""
    from gloam.eval.localization.localize import estimate, localize
    from gloam.eval.localization.on_ray import match_on_ray
    from gloam.eval.localization.request import LocalizeRequest
    from gloam.eval.localization.shards import match_shard
    from gloam.runtime.bulk.extract import Part

    _refuse_combinations(arguments)
    request = filled(LocalizeRequest, arguments, methods=arguments.method or ("2b",), placement=placement(arguments))
    if arguments.shard_index is not None:
        done = match_shard(request, Part(arguments.shard_index, arguments.num_shards), progress=not arguments.json)
        return Report(done.to_dict(), str(done))
    if arguments.dry_run:
        expected = estimate(request)
        return Report(expected.to_dict(), str(expected))
    cluster = ray_cluster(arguments, arguments.num_shards)
    matched = None if cluster is None else match_on_ray(request, cluster, progress=not arguments.json)
    found = localize(request, progress=not arguments.json)
    data, text = found.to_dict(), found.to_text()
    if arguments.report:
        from gloam.workflows.reports.queries import write_query_report

        page = str(write_query_report(found))
        data, text = data | {"report": page}, f"{text}\nreport: {page}"
    if matched is None:
        return Report(data, text)
    return Report(data | {"on_ray": matched.to_dict()}, f"{matched}\n{text}")


def _refuse_combinations(arguments: argparse.Namespace) -> None:
    expect_cluster(arguments)
    if arguments.on == "ray" and arguments.shard_index is not None:
        raise UsageError("--on ray gives out the shards itself; leave out --shard-index")
    if arguments.on == "ray" and arguments.num_shards is not None and arguments.num_shards < 1:
        raise UsageError("--num-shards must be 1 or more")
    if arguments.on != "ray" and (arguments.shard_index is None) != (arguments.num_shards is None):
        raise UsageError("--shard-index and --num-shards go together")
    methods = set(arguments.method or ("2b",))
    if not methods & {"2a", "2b"} and arguments.verify is None:
        refuse(arguments, OF_MATCHES, "is of matches, which 2a, 2b and --verify need; leave it out")
    if "2b" not in methods:
        refuse(arguments, OF_MAP, "is of the map of 2b; leave it out")
    if arguments.stores is None:
        refuse(arguments, ("trust",), "is of --stores; leave it out")
    if arguments.features == "sift" and arguments.matcher == "mutual":
        refuse(arguments, OF_MODELS, "is of models; sift and mutual neighbours are none, leave it out")
    if arguments.report and (arguments.dry_run or arguments.shard_index is not None):
        raise UsageError("--report shows poses, which only the whole run makes; leave it out")
    if arguments.dry_run and arguments.on == "ray":
        raise UsageError("--dry-run tells of a run of this process; leave out --on ray")
    if arguments.dry_run and arguments.num_shards is not None:
        raise UsageError("--dry-run tells of the whole run; leave out --shard-index and --num-shards")
