"""The smallest trainer of each kind, and engines that watch them."""

import contextlib

import torch

from gloam.networks.edges import create_detector
from gloam.training.translators.trainers import TRAINERS, PlainEngine
from gloam.training.translators.trainers.hedgan import HedGANTrainer

SIDE = 32
RESNET = {"width": 4, "blocks": 2}
PATCH = {"width": 4, "layers": 1}
TINY = {
    "pix2pix": {
        "generator_options": {"levels": 3, "width": 4, "norm": "batch"},
        "discriminator_options": PATCH | {"norm": "batch"},
    },
    "cyclegan": {
        "generator_options": RESNET | {"norm": "instance"},
        "discriminator_options": PATCH | {"norm": "instance"},
        "pool_size": 2,
    },
    "cut": {
        "generator_options": RESNET | {"norm": "instance", "antialias": True},
        "discriminator_options": PATCH | {"norm": "instance", "antialias": True},
        "layers": (0, 4, 8, 12),
        "patches": 16,
        "projection_width": 8,
        "flip_equivariance": True,
    },
    "cyeda": {
        "generator_options": {"n_mask": 2, "width": 4},
        "discriminator_options": PATCH | {"norm": "none", "bias": True},
        "pool_size": 2,
    },
    "hedgan": {
        "generator_options": RESNET | {"norm": "batch"},
        "discriminator_options": PATCH | {"norm": "batch"},
        "student": True,
        "student_learning_rate": 1e-4,
    },
    "weakly_paired": {
        "generator_options": {"width": 2, "base": (1, 1), "latent": 3},
        "discriminator_options": {"width": 4},
        "perceptual_weight": 0.0,
        "average_decay": 0.0,
        "spectral": False,  # whose folded weights are no average of folded weights
    },
    "mduit": {
        "generator_options": {"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]},
        "discriminator_options": PATCH | {"norm": "instance"},
        "dimension": 4,
        "appearance_learned": True,
    },
    "adain": {"generator_options": {"stages": [[4, 1], [6, 1]]}, "encoder_random": True},
    "mduit_content": {"generator_options": {"width": 2, "blocks": 1}, "dimension": 4},
    "ganimation": {
        "generator_options": {"width": 4, "blocks": 1},
        "discriminator_options": {"width": 4, "layers": 2},
        "judge_steps": 1,
    },
}


def tiny_options(name, **changes):
    return TRAINERS[name][1](**{"epochs": 4, "decay_epochs": 2, **TINY[name], **changes})


def tiny_trainer(name, engine=None, seed=0, **changes):
    options = tiny_options(name, **changes)
    if name == "hedgan":
        return HedGANTrainer(options, engine, seed, detector=tiny_detector(options.detector))
    return TRAINERS[name][0](options, engine, seed)


def tiny_detector(name="hed"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return create_detector(name, width=2)


def pair(seed=0, batch=2, side=SIDE, channels=3):
    generator = torch.Generator().manual_seed(seed)
    day, night = torch.rand(2, batch, channels, side, side, generator=generator) * 2 - 1
    return day, 0.3 * night - 0.6


def weights(trainer):
    return {key: value.clone() for key, value in trainer.networks.state_dict().items()}


class WatchingEngine(PlainEngine):
    """Notes, for each backward, whose gradients it changed, and for each step, in which order."""

    def __init__(self):
        self.trainer = None
        self.touched = {}
        self.order = []

    def backward(self, name, loss):
        parameters = dict(self.trainer.networks.named_parameters())
        before = {key: None if p.grad is None else p.grad.clone() for key, p in parameters.items()}
        super().backward(name, loss)
        self.touched[name] = {
            key
            for key, p in parameters.items()
            if p.grad is not None and (before[key] is None or not torch.equal(p.grad, before[key]))
        }
        self.order.append(name)


def watched(name, **changes):
    engine = WatchingEngine()
    engine.trainer = tiny_trainer(name, engine, **changes)
    return engine.trainer, engine


@contextlib.contextmanager
def counting(*modules):
    """Forwards of each module, counted by hooks."""
    counts = [0] * len(modules)

    def count(index):
        def hook(*_):
            counts[index] += 1

        return hook

    handles = [module.register_forward_hook(count(index)) for index, module in enumerate(modules)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def totals_of(trainer):
    """Fills, at each step, with the total that each optimiser's networks minimise."""
    totals, update = {}, trainer._update

    def noting(name, loss):
        totals[name] = loss.detach()
        update(name, loss)

    trainer._update = noting
    return totals


class HalfEngine(PlainEngine):
    """Forwards in bfloat16."""

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16)


def write_narrow_vgg19(path, width=2):
    """A state dict of VGG19's layout up to the last layer that is looked at."""
    generator = torch.Generator().manual_seed(0)
    state, channels = {}, 3
    for index in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
        state[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) * 0.3
        state[f"features.{index}.bias"] = torch.randn(width, generator=generator) * 0.1
        channels = width
    torch.save(state, path)
    return path
