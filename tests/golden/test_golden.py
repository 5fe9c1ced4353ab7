"""What was written down is still so: identities, cards, keys, bytes, draws and messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden import record

QUICK = "gem_vgg16"  # of the families
LATER = (
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
    found = json.dumps(plain(record.messages()))
    for choice in LATER:
        found = found.replace(choice, "")
    assert json.loads(found) == record.read("messages")
