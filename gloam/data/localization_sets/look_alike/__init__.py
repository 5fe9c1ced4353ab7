"""Look-alikes of public localization benchmarks, from the town: real names, counts, cameras and rigs, hidden truth."""

from gloam.data.localization_sets.look_alike.sizes import SIZES, LookAlikeSize
from gloam.data.localization_sets.look_alike.write import LookAlike, write_look_alike

__all__ = ["SIZES", "LookAlike", "LookAlikeSize", "write_look_alike"]
