"""Changes that make no wrong program, one by one, and why; the benchmark of wrong programs does not draw them.

A change is harmless where what it gives may as well be given: no caller, no contract and no figure can tell.
"""

from __future__ import annotations

IMAGES = "gloam/data/images.py"
FEATURES = "gloam/runtime/localization/features/sources.py"
MAP_PAIRS = "gloam/runtime/localization/maps/map_pairs.py"
COLMAP = "gloam/runtime/localization/colmap.py"
MATCHING = "gloam/runtime/localization/matches/mutual.py"
BENCHMARK = "gloam/eval/localization/benchmark.py"
DETECT = "gloam/networks/local_features/detect.py"
APPROXIMATION = "gloam/eval/localization/approximation.py"
SCORES = "gloam/eval/localization/scores.py"

DEFAULT = "what torch takes by default; said for the reader"
SAMPLED = "functional.grid_sample(maps, grid[:, None], mode=mode{}{})"
NARROWED = "never so: it tells the type checker what 2b has"
SYMMETRIC = "an error is the same both ways"
READ = "only its rotation is read"

# Module, function, what stood, what was put: the reason.
HARMLESS: dict[tuple[str, str, str, str], str] = {
    (
        IMAGES,
        "_to_rgb",
        "if image.mode != 'RGB':",
        "if True:",
    ): "a conversion to the mode that it has loads the image, too",
    (
        FEATURES,
        "SiftFeatures.extract",
        "max(grey.shape) > self.max_side",
        "max(grey.shape) >= self.max_side",
    ): "an image of that very side is brought to the size that it has",
    (
        FEATURES,
        "SiftFeatures.extract",
        "np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]], np.float32)",
        "np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]])",
    ): "the keypoints are float32 and stay so, rounded in the last bit",
    (
        MATCHING,
        "match_mutual",
        "np.full(len(second), -np.inf, np.float32)",
        "np.full(len(second), -np.inf)",
    ): "holds and compares the same float32 values in more memory",
    (
        MATCHING,
        "match_mutual",
        "np.zeros(len(second), np.int64)",
        "np.ones(len(second), np.int64)",
    ): "every entry is written before it is read",
    (
        MATCHING,
        "match_mutual",
        "np.zeros(len(second), np.int64)",
        "np.zeros(len(second))",
    ): "row numbers are equal as floating-point numbers, too",
    **{
        (
            COLMAP,
            "verify_by_pose",
            f"np.einsum('ni,ni->n', {product}, cross)",
            f"np.einsum('ni,ni->n', cross, {product})",
        ): "a product is the same both ways"
        for product in ("np.cross(b, np.array([x, y, z]))", "np.cross(turned, np.array([x, y, z]))")
    },
    (
        COLMAP,
        "_write_database",
        "database.write_camera(camera, use_camera_id=True)",
        "database.write_camera(camera)",
    ): "an empty database counts from 1, too, in the same order",
    (
        APPROXIMATION,
        "barycentric_weights",
        "np.linalg.lstsq(system, np.append(d @ q, 1.0), rcond=None)",
        "np.linalg.lstsq(system, np.append(d @ q, 1.0))",
    ): "what numpy 2 takes by default; said for the reader",
    (APPROXIMATION, "barycentric_weights", "k + 1", "k + 2"): "a column of zeros more, whose weight is left out",
    (
        APPROXIMATION,
        "similarity_weights",
        "np.clip(np.asarray(retrieved, np.float64) @ np.asarray(query, np.float64), 0, None)",
        "np.clip(0, np.asarray(retrieved, np.float64) @ np.asarray(query, np.float64), None)",
    ): "the larger of the two either way",
    **{
        (APPROXIMATION, "average_pose", "Pose((w, x, y, z), (0.0, 0.0, 0.0))", f"Pose((w, x, y, z), {place})"): READ
        for place in ("(1.0, 0.0, 0.0)", "(0.0, 1.0, 0.0)", "(0.0, 0.0, 1.0)")
    },
    (BENCHMARK, "_localized.one", "if world is None:", "if False:"): NARROWED,
    (BENCHMARK, "_localized.one", "raise DataError('2b needs a map')", "pass"): NARROWED,
    **{
        (
            DETECT,
            "sample",
            SAMPLED.format(", padding_mode='zeros'", ", align_corners=False"),
            SAMPLED.format(*rest),
        ): DEFAULT
        for rest in ((", padding_mode='zeros'", ""), ("", ", align_corners=False"))
    },
    **{
        (SCORES, "pose_errors", f"{error}(pose, truth[name])", f"{error}(truth[name], pose)"): SYMMETRIC
        for error in ("position_error", "rotation_error")
    },
    (
        "gloam/runtime/localization/features/database.py",
        "DatabaseFeatures._rows",
        "sqlite3.connect(f'{self.path.resolve().as_uri()}?mode=ro', uri=True)",
        "sqlite3.connect(f'{self.path.resolve().as_uri()}?mode=ro')",
    ): "a SQLite that takes URIs by itself, as many builds do",
    (
        MAP_PAIRS,
        "_near",
        "rotation_error(poses[row], poses[other])",
        "rotation_error(poses[other], poses[row])",
    ): SYMMETRIC,
}
