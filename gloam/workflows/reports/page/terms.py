"""What the words of a table mean, said where they first stand on a page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gloam.workflows.reports.page.data import Table

TERMS = (
    (r"\bmAP\b", "mAP", "mean average precision: 1 where all right images come before all others, for every query"),
    (r"\bAP\b", "AP", "average precision: 1 where all right images of the query come before all others"),
    (r"\bR@\d+", "R@k", "recall at k: share of the queries with a right image among the first k"),
    (r"\bmP@\d+", "mP@k", "mean precision at k: share of right images among the first k"),
    (r"\bchance\b", "chance", "what a random ranking has"),
    (r"\buntrained\b", "untrained", "the same network with random weights"),
    (r"\b2b\b", "2b", "one map of all map images; the pose follows from keypoints matched with its points"),
    (r"\b2a\b", "2a", "a small map of the query's retrieved images alone"),
    (r"\btop-?1\b", "top-1", "the pose of the most similar map image, as it is"),
    (r"\bSIFT\b", "SIFT", "keypoints and their descriptors by formula, without training"),
    (r"\bCLAHE\b", "CLAHE", "contrast made even, tile by tile"),
    (r"\blocalized\b", "localized", "queries for which a pose was found, right or wrong"),
    (r"% \d", "% 0.25 m 2°", "share of the queries whose camera is no farther off than that"),
    (r"\bmedian m\b", "median m", "median distance from the true camera; a dash where most queries have no pose"),
    (r"\binliers\b", "inliers", "correspondences that the pose confirms"),
    (
        r"\bcorrespondences\b",
        "correspondences",
        "a keypoint of the query, and the point of the map that it was matched with",
    ),
    (r"± m", "± m, °", "how far off the pose may be, by the scatter of its inliers alone"),
    (r"\bKID\b", "KID", "kernel inception distance of made images from real ones; 0 is best"),
    (r"\bFID\b", "FID", "Fréchet inception distance of made images from real ones; 0 is best"),
    (r"\bskipped\b", "skipped", "queries without a right image in the map"),
)


def explained(tables: Sequence[Table]) -> list[list[tuple[str, str]]]:
    """For each table the terms of its title, columns and first cells that no table before has, with what they mean."""
    known: set[str] = set()
    found = []
    for table in tables:
        words = " | ".join([table.title, *table.columns, *(str(row[0]) for row in table.rows)])
        new = [(term, said) for pattern, term, said in TERMS if term not in known and re.search(pattern, words)]
        known |= {term for term, _ in new}
        found.append(new)
    return found
