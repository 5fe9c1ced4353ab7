"""What was written down is still so: identities, cards, keys, bytes, draws and messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden import record

QUICK = "gem_vgg16"  # of the families
LATER = (
    ", 'adopt'",
    ", 'whiten'",
    ", 'store'",
    ", 'features'",
    ", 'match'",
    ", 'tensorrt-rtx'",
    ", 'pair'",
    ", 'data'",
    ", mduit_content",  # before what it begins with
    ", mduit",
    ", 'domains'",
    ", weakly-paired",
    ", weakly_paired_netvlad",
    "cyclegan-study, ",
    ", figure5.1",
    ", vgg16_gem_nd",
    ", spoc_vgg16",
    ", rmac_vgg16",
    ", mac_resnet101",
    ", spoc_resnet101",
    ", rmac_resnet101",
    ", vgg16_hedmac",
    ", vgg16_hedn_mac",
    ", vgg16_rcfn_mac",
    ", 'serve'",
    " (--detector)",  # how the key that is named is given
    *(f", dinov2_vit{size}14{more}" for size in "sbl" for more in ("_reg", "")),
    ", 'dinov2'",
    ", 'dinov2_timm'",
    ", salad_dinov2, megaloc, boq_resnet50, boq_dinov2",
    ", cosplace_vgg16, cosplace_resnet18, cosplace_resnet50, cosplace_resnet101, cosplace_resnet152",
    ", apgem_resnet50, apgem_resnet101, mixvpr",
    ", anyloc_vits14, anyloc_vitb14, anyloc_vitl14",
    ", 'vocabulary'",
    ", town_boq",
    ", town_salad",
    ", 'calibration'",
    ", 'salad', 'megaloc', 'boq', 'mixvpr', 'cosplace', 'apgem'",
)  # choices that came later; a message that lists all has them now


def plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("part", ["networks", "stored", "job", "draws"])
def test_what_was_written_down(part: str) -> None:
    assert plain(record.PARTS[part]()) == record.read(part)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == QUICK else pytest.mark.slow) for n in record.families()]
)
def test_space_and_card_of_every_family(name: str) -> None:
    assert plain(record.exported(name)) == record.read("exported")[name]


def test_messages_of_bad_invocations_word_for_word() -> None:
    """After the name of the verb, which is whole now: ``gloam eval retrieval``."""
    found = json.dumps(plain(record.messages()))
    for choice in LATER:
        found = found.replace(choice, "")
    told, written = json.loads(found), record.read("messages")
    assert {words: [code, _after_verb(line)] for words, (code, line) in told.items()} == {
        words: [code, _after_verb(line)] for words, (code, line) in written.items()
    }
    for words, (_, line) in told.items():
        verb, sub = [*words.split(), "", ""][:2]
        whole = "gloam" if verb in ("", "fly") else f"gloam {verb}"
        if verb in ("train", "eval", "dataset", "asmk") and sub:
            whole += f" {sub}"
        assert line.partition(": ")[0] == whole


def _after_verb(line: str) -> str:
    return line.partition(": ")[2]
