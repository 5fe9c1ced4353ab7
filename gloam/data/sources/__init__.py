"""Where images come from: folders, lists, kapture datasets, tar shards, Parquet tables, object stores, one image."""

from gloam.data.sources.find import find_images
from gloam.data.sources.items import IMAGE_SUFFIXES, ImageItem, ImageList, Origin, repeats

__all__ = ["IMAGE_SUFFIXES", "ImageItem", "ImageList", "Origin", "find_images", "repeats"]
