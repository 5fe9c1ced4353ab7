"""Weights and ground truths that others published: names, addresses, licences. Nothing of it ships with gloam.

None of the sources publishes hashes beside its files; a few carry the beginning of their sha256 in the name.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from gloam.errors import UsageError

DARK_SIDE = "http://ptak.felk.cvut.cz/personal/jenicto2/download/iccv23_gan/"
CIRTORCH = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/"
DAY_NIGHT = "http://cmp.felk.cvut.cz/daynightretrieval/download/"
HOW = "http://ptak.felk.cvut.cz/personal/toliageo/share/how/"
NETVLAD = "https://cvg-data.inf.ethz.ch/hloc/netvlad/"
NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # torch.hub's habit: the beginning of the sha256


@dataclass(frozen=True)
class Published:
    """Something to fetch.

    Attributes:
        name: what ``gloam pull`` calls it.
        urls: of its files; the first is the main one.
        what: in a few words.
        kind: ``embedder``, ``translator``, ``edges``, ``local_features``, ``backbone`` or ``data``.
        family: what ``gloam import --as`` takes; empty for files that are used as they are.
        licence: of the code it came with; terms of the weights themselves are rarely stated.
    """

    name: str
    urls: tuple[str, ...]
    what: str
    kind: str
    family: str = ""
    licence: str = "not stated"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files, as a folder or a mirror holds them."""
        return tuple(url.rpartition("/")[2] for url in self.urls)


def _dark_side() -> list[Published]:
    found = []
    for backbone in ("vgg16", "resnet101"):
        for night in ("cyclegan", "hedngan"):
            stem = f"{DARK_SIDE}{night}_embed_{backbone}"
            what = f"GeM {backbone}, generated nights of {night}, CLAHE, with its whitening (Dark Side, ICCV 2023)"
            urls = (f"{stem}.pth", f"{stem}_lw.pkl")
            found.append(Published(f"gem_{backbone}_{night}", urls, what, "embedder", "auto", "MIT (code)"))
    for night in ("cyclegan", "hedngan"):
        what = f"day to night generator {night} (Dark Side, ICCV 2023)"
        address = f"{DARK_SIDE}{night}_generator_X.pth"
        found.append(Published(night, (address,), what, "translator", "auto", "MIT (code)"))
    return found


def _cirtorch() -> list[Published]:
    trained = {
        "retrievalSfM120k-vgg16-gem": ("retrieval-SfM-120k", "b4dcdc6"),
        "retrievalSfM120k-resnet101-gem": ("retrieval-SfM-120k", "b80fb85"),
        "rSfM120k-tl-resnet50-gem-w": ("retrieval-SfM-120k", "97bf910"),
        "rSfM120k-tl-resnet101-gem-w": ("retrieval-SfM-120k", "a155e54"),
        "rSfM120k-tl-resnet152-gem-w": ("retrieval-SfM-120k", "f39cada"),
        "gl18-tl-resnet50-gem-w": ("gl18", "83fdc30"),
        "gl18-tl-resnet101-gem-w": ("gl18", "a4d43db"),
        "gl18-tl-resnet152-gem-w": ("gl18", "21278d5"),
    }
    found = [
        Published(
            name,
            (f"{CIRTORCH}networks/{folder}/{name}-{end}.pth",),
            "GeM (cirtorch)",
            "embedder",
            "cirtorch",
            "MIT (code)",
        )
        for name, (folder, end) in trained.items()
    ]
    caffe = {"vgg16": "d369c8e", "resnet50": "ac468af", "resnet101": "10a101d", "resnet152": "1011020"}
    for backbone, end in caffe.items():
        url = f"{CIRTORCH}networks/imagenet/imagenet-caffe-{backbone}-features-{end}.pth"
        found.append(Published(f"imagenet-caffe-{backbone}", (url,), f"{backbone} as Caffe trained it", "backbone"))
    for name in ("120k", "30k"):
        urls = tuple(f"{CIRTORCH}train/dbs/retrieval-SfM-{name}{end}.pkl" for end in ("", "-whiten"))
        found.append(Published(f"retrieval-SfM-{name}", urls, "clusters and pairs; images apart (ims.tar.gz)", "data"))
    for name in ("roxford5k", "rparis6k"):
        url = f"{CIRTORCH}test/{name}/gnd_{name}.pkl"
        found.append(Published(f"gnd_{name}", (url,), "ground truth of revisited Oxford and Paris", "data"))
    return found


def _others() -> list[Published]:
    models = f"{DAY_NIGHT}models/"
    return [
        Published(
            "hed_sniklaus",
            (f"{DARK_SIDE}hed_sniklaus_github.pth",),
            "HED edge detector",
            "edges",
            "hed",
            "GPL-3.0 (code)",
        ),
        Published(
            "rcf_bsds500_pascal",
            (f"{DARK_SIDE}rcf_bsds500_pascal_model.pth",),
            "RCF edge detector",
            "edges",
            "rcf",
            "CC BY-NC-SA 4.0 (code)",
        ),
        Published(
            "vgg_clahe_sfmnd0.25",
            (f"{models}vgg_clahe_sfmnd0.25-85f6ced3.pth", f"{models}vgg_clahe_sfmnd0.25-lw-d706adc9.pkl"),
            "GeM VGG16, 25 % real night and day pairs, CLAHE (ICCV 2019)",
            "embedder",
            "auto",
        ),
        Published(
            "resnet18",
            ("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
            "ResNet-18 for ImageNet: what HOW begins with",
            "embedder",
            "auto",
            "BSD-3-Clause (code)",
        ),
        Published(
            "how_r18",
            (f"{HOW}models/how_r18.pth",),
            "HOW local features, ResNet-18",
            "local_features",
            "how",
            "MIT (code)",
        ),
        Published(
            "how_r50-",
            (f"{HOW}models/how_r50-.pth",),
            "HOW local features, ResNet-50-",
            "local_features",
            "how",
            "MIT (code)",
        ),
        Published(
            "netvlad_pitts30k", (f"{NETVLAD}Pitts30K_struct.mat",), "NetVLAD VGG16 of Pittsburgh", "embedder", "netvlad"
        ),
        Published("gnd_247tokyo1k", (f"{DAY_NIGHT}data/gnd_247tokyo1k.pkl",), "ground truth of Tokyo 24/7", "data"),
    ]


PUBLISHED: dict[str, Published] = {one.name: one for one in (*_dark_side(), *_cirtorch(), *_others())}


def find_published(name: str) -> Published:
    """The entry of a name.

    Raises:
        UsageError: unknown; the nearest is named.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    nearest = difflib.get_close_matches(name, PUBLISHED, 1, 0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UsageError(f"nothing is published as {name!r}; {hint}`gloam pull --list` names all {len(PUBLISHED)}")


def named_hash(file: str) -> str:
    """The beginning of the sha256 that a file's name states, or an empty text."""
    match = NAMED_HASH.search(file)
    return match[1] if match else ""
