"""MDUIT: translation into the appearance of an example, and a vector of the content that the appearance leaves alone.

One network of all domains: an image and its translation have one content and two appearances, both read off images.
Its ablation without translation learns the content's vector from images and copies of other colours.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gloam.errors import ModelError, UsageError
from gloam.heartbeat import Heartbeat
from gloam.networks.checkpoints import read_state
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.mduit import MduitContent
from gloam.networks.translators import init_weights
from gloam.networks.translators.mduit import MduitGenerator
from gloam.training.translators.company import Alike, Beside, Company, company_of, most_alike
from gloam.training.translators.domain_losses import appearance_margin, content_margin, info_nce
from gloam.training.translators.jitter import jittered
from gloam.training.translators.losses import GanLoss, exact, l1
from gloam.training.translators.trainers.base import INITS, Engine, adam, evaluating, frozen
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator
from gloam.training.translators.trainers.domains import DomainOptions, ManyDomains

AT_ONCE = 16  # images that are looked at together before an epoch


@dataclass(frozen=True)
class ContentOptions(DomainOptions):
    """Options of the content's vector z. The paper states learning rate, betas, epochs, temperature and negatives.

    Attributes:
        generator_options: of ``mduit``; the content encoder's width and blocks among them.
        dimension: of z; our choice.
        contrast: ``nce``, InfoNCE of z and its positive among the negatives, or ``distance``, the L1 of both alone.
        contrast_weight: of either.
        temperature: of InfoNCE.
        negatives: other images of each source, drawn at random.
        mined_negatives: how many of them are instead those most alike by z that show another place.
        place_positive: weight of a second InfoNCE whose positive is an image of the source's place, where one is known;
            not printed in the paper.
        jitter: of the colours of the copy that is the positive where nothing is translated, see
            :func:`gloam.training.translators.jitter.jittered`; the paper does not state it.
    """

    epochs: int = 50
    decay_epochs: int = 15
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    generator: str = "mduit"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    discriminator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "instance"})
    gan_loss: str = "cross_entropy"
    dimension: int = 256
    contrast: Literal["nce", "distance"] = "nce"
    contrast_weight: float = 1.0
    temperature: float = 0.07
    negatives: int = 16
    mined_negatives: int = 0
    place_positive: float = 0.0
    jitter: float = 0.4

    inits: ClassVar[tuple[str, ...]] = (*INITS, "paper")

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        fine = {
            "channels 1: MDUIT takes RGB images": self.channels == 3,
            "codes: MDUIT takes no label; leave them out": self.codes is None,
            f"generator {self.generator!r}: must be 'mduit'": self.generator == "mduit",
            f"dimension {self.dimension} and negatives {self.negatives}: must be at least 1": min(
                self.dimension, self.negatives
            )
            >= 1,
            f"contrast {self.contrast!r}: must be nce or distance": self.contrast in ("nce", "distance"),
            f"temperature {self.temperature}: must be positive": self.temperature > 0,
            f"mined_negatives {self.mined_negatives}: must be 0 to negatives ({self.negatives})": 0
            <= self.mined_negatives
            <= self.negatives,
            f"place_positive {self.place_positive}: must not be negative": self.place_positive >= 0,
            f"jitter {self.jitter}: must be 0 or more, and under 1": 0 <= self.jitter < 1,
        }
        for message, well in fine.items():
            if not well:
                raise UsageError(message)

    @property
    def beside(self) -> Beside:
        """See :attr:`TrainerOptions.beside`."""
        if self.contrast == "distance":  # which knows no negatives
            return Beside(0, translation=False)
        return Beside(self.negatives, self.mined_negatives, translation=False, place=self.place_positive > 0)


@dataclass(frozen=True)
class MduitOptions(ContentOptions):
    """Options of MDUIT; the weights are the paper's.

    Attributes:
        init: ``paper`` is N(0, 0.001) without the identity in the filters, as the paper says; hardly anything passes.
        adversarial_weight: of the discriminator of images.
        match_weight: of the discriminator of pairs, which tells whether two images have one appearance.
        self_weight, cycle_weight: of the L1 of an image and its own reconstruction, and of the one there and back.
        content_weight: of the margin between contents; content_margin: its width.
        appearance_weight: of the margin between filters.
        appearance_weights: file of torchvision's VGG16 state dict, frozen.
        appearance_learned: VGG16's layers start from random weights and learn instead.
    """

    adversarial_weight: float = 1.0
    match_weight: float = 1.0
    self_weight: float = 100.0
    cycle_weight: float = 100.0
    content_weight: float = 10.0
    content_margin: float = 0.1
    appearance_weight: float = 1.0
    appearance_weights: str | None = None
    appearance_learned: bool = False

    @property
    def beside(self) -> Beside:
        """See :attr:`TrainerOptions.beside`."""
        return dataclasses.replace(super().beside, translation=True)


class ContentTrainer(ManyDomains):
    """MDUIT without translation: content encoder and vector alone, from images and copies of other colours.

    Attributes:
        embedder: the content encoder and its embedding.
    """

    name = "mduit_content"
    options: ContentOptions

    def __init__(self, options: ContentOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        self._seeds = network_seeds(options, seed, 4)
        self._drawn_by = _drawing(options)
        shape = {key: value for key, value in options.generator_options.items() if key in ("width", "blocks")}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seeds[0])
            embedder = create_embedder("mduit_content", dimension=options.dimension, **shape)
            init_weights(embedder, self._drawn_by.init, self._drawn_by.init_gain, self._seeds[0])
        assert isinstance(embedder, MduitContent)  # that is its name
        self.embedder = embedder
        self.generators["choices"] = torch.Generator().manual_seed(seed)
        self._alike: tuple[int, Alike] | None = None
        self._build()

    def _build(self) -> None:
        """Networks and optimisers."""
        self.networks["embedder"] = self.embedder
        self.optimizers["embedder"] = self._adam(self.embedder)

    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """One update in which the batch is its own company. See :meth:`Trainer.step_between`."""
        return self.step_among(source, target, domains, company_of(source, target))

    def step_among(self, source: Tensor, target: Tensor, domains: Tensor, company: Company) -> dict[str, Tensor]:
        """One update; targets are not looked at. See :meth:`Trainer.step_among`."""
        self.networks.train()
        copies = jittered(source, self.options.jitter, self.generators["choices"])
        with self.engine.autocast():
            contents = self._contents(source, copies, company)
            losses = self._contrast([self.embedder.embedding(part) for part in contents], company)
        self._update("embedder", self._weighted(losses))
        return {name: loss.detach() for name, loss in losses.items()}

    def _contents(self, source: Tensor, copies: Tensor, company: Company) -> list[Tensor]:
        """Of sources and copies, and of negatives and images of the sources' places where there are; in one forward."""
        images = [source, copies]
        images += [] if company.negatives is None else [company.negatives.flatten(0, 1)]
        images += [] if company.same_place is None else [company.same_place]
        contents: Tensor = self.embedder.content(torch.cat(images))
        return list(torch.split(contents, [len(part) for part in images]))

    def _contrast(self, vectors: list[Tensor], company: Company) -> dict[str, Tensor]:
        """The losses on vectors: of sources and positives, then of what is in their company."""
        options = self.options
        query, positive, *rest = vectors
        if options.contrast == "distance":
            return {"contrast": l1(query, positive)}
        others, *places = rest
        negatives = others.reshape(len(query), -1, others.shape[1])
        losses = {"contrast": info_nce(query, positive, negatives, options.temperature)}
        for place in places:
            assert company.placed is not None  # it comes with them
            known = company.placed.to(query.device)
            if bool(known.any()):
                losses["place"] = info_nce(query[known], place[known], negatives[known], options.temperature)
            else:
                losses["place"] = exact(query).sum() * 0
        return losses

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        terms = [self._weight(name) * loss for name, loss in losses.items()]
        return torch.stack(terms).sum()

    def _weight(self, name: str) -> float:
        return {"contrast": self.options.contrast_weight, "place": self.options.place_positive}[name]

    def begin_epoch(self, epoch: int, batches: Any, say: Callable[[str], None]) -> None:
        """Rank the images by the network's vectors, from the second epoch on. See :meth:`Trainer.begin_epoch`."""
        if not self.options.beside.mines or epoch == 0:
            return
        if self._alike is None or self._alike[0] != epoch:
            vectors = []
            beat = Heartbeat(say, "looking for images that are alike", len(batches.labels), "images")
            with self._looking():
                for start in range(0, len(batches.labels), AT_ONCE):
                    images = batches.middles(range(start, min(start + AT_ONCE, len(batches.labels))))
                    vectors.append(self.embedder(self._placed(images)).float().cpu())
                    beat.update(len(images))
            mined = self.options.mined_negatives
            self._alike = epoch, most_alike(torch.cat(vectors), batches.labels, batches.near, mined)
        batches.use(self._alike[1])

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        with torch.no_grad(), evaluating(self.networks), self.engine.autocast():
            yield

    def _placed(self, images: Tensor) -> Tensor:
        like = next(self.embedder.parameters())
        return images.to(like.device, like.dtype)

    def _samples_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(self.seed)
        return {"source": source, "fake": jittered(source, self.options.jitter, random)}

    def _products(self) -> dict[str, nn.Module]:
        """``embedder``."""
        return {"embedder": self.embedder}

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Trainer.state_dict`; which images are alike is part of it, for the networks have moved on."""
        if self._alike is None:
            return super().state_dict()
        epoch, alike = self._alike
        tables = {name: torch.from_numpy(table) for name, table in vars(alike).items()}
        return {**super().state_dict(), "alike": {"epoch": epoch, **tables}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.load_state_dict`."""
        super().load_state_dict(state)
        alike = state.get("alike")
        self._alike = (
            None
            if alike is None
            else (int(alike["epoch"]), Alike(alike["targets"].numpy(), alike["negatives"].numpy()))
        )


class MduitTrainer(ContentTrainer):
    """Encoders, generator and embedding are updated first, then both discriminators on the same translations.

    Raises:
        UsageError: no file of VGG16's weights is named, and they are not to be learned.
        ModelError: that file holds no VGG16.
    """

    name = "mduit"
    options: MduitOptions

    def _build(self) -> None:
        options, drawn_by = self.options, self._drawn_by
        if options.appearance_weights is None and not options.appearance_learned:
            raise UsageError(
                "appearance_weights is not set; name a file of torchvision's VGG16 weights (vgg16-397923af.pth), or "
                "set appearance_learned to start from random ones"
            )
        named = {"domains": options.domains, **drawn_by.generator_options}
        generator = new_generator(dataclasses.replace(drawn_by, generator_options=named), self._seeds[0])
        assert isinstance(generator, MduitGenerator)  # another was refused
        self.generator = generator
        vgg = generator.appearance.vgg
        if options.appearance_weights is not None:
            load_vgg16(vgg, options.appearance_weights)
        else:
            init_weights(vgg, "kaiming", seed=self._seeds[0])  # which has no norm that would make up for small weights
        vgg.requires_grad_(options.appearance_learned)
        self.embedder.content = generator.content  # one encoder, in both of what a run saves
        self.image_judge = new_discriminator(drawn_by, self._seeds[1])
        self.match_judge = new_discriminator(drawn_by, self._seeds[2], images=2)
        self.networks.update(
            {
                "embedder": self.embedder,
                "generator": generator,
                "image_judge": self.image_judge,
                "match_judge": self.match_judge,
            }
        )
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)
        betas = (options.beta1, options.beta2)
        learning = {p: None for net in (generator, self.embedder) for p in net.parameters() if p.requires_grad}
        judging = [p for judge in (self.image_judge, self.match_judge) for p in judge.parameters()]
        self.optimizers = {
            "generator": adam(list(learning), options.learning_rate, betas),
            "discriminator": adam(judging, options.discriminator_learning_rate, betas),
        }

    def step_among(self, source: Tensor, target: Tensor, domains: Tensor, company: Company) -> dict[str, Tensor]:
        """One update. See :meth:`Trainer.step_among`."""
        same_domain = company.same_domain
        assert same_domain is not None  # it was asked for
        self.networks.train()
        with self.engine.autocast(), frozen(self.image_judge, self.match_judge):
            fake, losses = self._generator_losses(source, target, company)
        self._update("generator", self._weighted(losses))
        made = fake.detach()
        with self.engine.autocast():
            real = self.image_judge(torch.cat((source, target)))
            judged = {
                "image": self.gan.discriminator(real, self.image_judge(made)),
                "match": self.gan.discriminator(self._match(target, same_domain), self._match(target, made)),
            }
        self._update("discriminator", self._weighted(judged))
        losses |= {f"discriminator_{name}": loss for name, loss in judged.items()}
        return {name: loss.detach() for name, loss in losses.items()}

    def _generator_losses(self, source: Tensor, target: Tensor, company: Company) -> tuple[Tensor, dict[str, Tensor]]:
        """The translation, and what its makers minimise."""
        other_domain, other_content = company.other_domain, company.other_content
        assert other_domain is not None  # they were asked for
        assert other_content is not None
        generator = self.generator
        own, other, *rest = self._contents(source, other_content, company)
        filters: Tensor = generator.appearance(torch.cat((source, target, other_domain)))
        of_source, of_target, of_other = filters.chunk(3)
        fake, again = generator.decoded(torch.cat((own, own)), torch.cat((of_target, of_source))).chunk(2)
        content, appearance = generator.content(fake), generator.appearance(fake)
        back = generator.decoded(content, of_source)
        embedding = self.embedder.embedding
        vectors = [embedding(part) for part in (own, content, *rest)]
        losses = {
            "image": self.gan.generator(self.image_judge(fake)),
            "match": self.gan.generator(self._match(target, fake)),
            "self": l1(again, source),
            "cycle": l1(back, source),
            "content": content_margin(own, content, other, self.options.content_margin),
            "appearance": appearance_margin(of_target, appearance, of_other),
            **self._contrast(vectors, company),
        }
        return fake, losses

    def _match(self, first: Tensor, second: Tensor) -> Tensor:
        """One score a pair: the images do not fit pixel for pixel, so no patch can tell."""
        scores: Tensor = self.match_judge(torch.cat((first, second), 1))
        return scores.mean((1, 2, 3))

    def _weight(self, name: str) -> float:
        options = self.options
        weights = {
            "image": options.adversarial_weight,
            "match": options.match_weight,
            "self": options.self_weight,
            "cycle": options.cycle_weight,
            "content": options.content_weight,
            "appearance": options.appearance_weight,
        }
        return weights[name] if name in weights else super()._weight(name)

    def finish(self, batches: Any) -> None:
        """Keep the mean filter of each domain's training images. See :meth:`Trainer.finish`."""
        self._keep_appearances(self.generator, batches)

    def _samples_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        generator = self.generator
        own, there = (generator.appearance(images) for images in (source, target))
        content = generator.content(source)
        fake = generator.decoded(content, there)
        pictures = {"source": source, "fake": fake, "self": generator.decoded(content, own)}
        return {**pictures, "cycle": generator.decoded(generator.content(fake), own), "target": target}

    def _products(self) -> dict[str, nn.Module]:
        """``translator`` and ``embedder``, which share the content encoder."""
        return {"translator": self.generator, "embedder": self.embedder}


def load_vgg16(vgg: nn.Module, path: str | Path) -> None:
    """Fill VGG16's first layers from torchvision's state dict.

    Raises:
        ModelError: not such weights.
    """
    state = {key.removeprefix("features."): value for key, value in read_state(Path(path))[0].items()}
    own = vgg.state_dict()
    for key, value in own.items():
        if key not in state or state[key].shape != value.shape:
            raise ModelError(f"{path}: no weights of VGG16, {key} does not fit; give torchvision's state dict")
    vgg.load_state_dict({key: state[key].float() for key in own})


def _drawing(options: ContentOptions) -> ContentOptions:
    """The options by which weights are drawn."""
    if options.init != "paper":
        return options
    without = {**options.generator_options, "identity": False}
    return dataclasses.replace(options, init="normal", init_gain=0.001, generator_options=without)
