"""Trainers of translators, one a file; a new one is a file and a line in :data:`TRAINERS`."""

from __future__ import annotations

from gloam.training.translators.trainers.adain import AdainOptions, AdainTrainer
from gloam.training.translators.trainers.base import Engine, PlainEngine, Trainer, TrainerOptions
from gloam.training.translators.trainers.cut import CUTOptions, CUTTrainer
from gloam.training.translators.trainers.cyclegan import CycleGANOptions, CycleGANTrainer
from gloam.training.translators.trainers.cyeda import CyEDAOptions, CyEDATrainer
from gloam.training.translators.trainers.domains import DomainOptions, DomainTrainer
from gloam.training.translators.trainers.ganimation import GanimationOptions, GanimationTrainer
from gloam.training.translators.trainers.hedgan import HedGANOptions, HedGANTrainer
from gloam.training.translators.trainers.mduit import ContentOptions, ContentTrainer, MduitOptions, MduitTrainer
from gloam.training.translators.trainers.pix2pix import Pix2PixOptions, Pix2PixTrainer
from gloam.training.translators.trainers.weakly_paired import WeaklyPairedOptions, WeaklyPairedTrainer

# constructors take (options, engine=None, seed=0)
TRAINERS: dict[str, tuple[type[Trainer], type[TrainerOptions]]] = {
    Pix2PixTrainer.name: (Pix2PixTrainer, Pix2PixOptions),
    CycleGANTrainer.name: (CycleGANTrainer, CycleGANOptions),
    CUTTrainer.name: (CUTTrainer, CUTOptions),
    CyEDATrainer.name: (CyEDATrainer, CyEDAOptions),
    HedGANTrainer.name: (HedGANTrainer, HedGANOptions),
    WeaklyPairedTrainer.name: (WeaklyPairedTrainer, WeaklyPairedOptions),
    GanimationTrainer.name: (GanimationTrainer, GanimationOptions),
    AdainTrainer.name: (AdainTrainer, AdainOptions),
    MduitTrainer.name: (MduitTrainer, MduitOptions),
    ContentTrainer.name: (ContentTrainer, ContentOptions),
}

__all__ = ["TRAINERS", "DomainOptions", "DomainTrainer", "Engine", "PlainEngine", "Trainer", "TrainerOptions"]
