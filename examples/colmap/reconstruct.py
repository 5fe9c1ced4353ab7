"""``python reconstruct.py DATABASE IMAGES PAIRS MODEL``: COLMAP verifies and maps what ``gloam match`` wrote."""

import sys
from pathlib import Path

import pycolmap

database, images, pairs, model = map(Path, sys.argv[1:])
pycolmap.verify_matches(database, pairs)
model.mkdir(parents=True, exist_ok=True)
for number, found in pycolmap.incremental_mapping(database, images, model).items():
    print(f"{model / str(number)}: {found.num_reg_images()} images, {found.num_points3D()} points")
