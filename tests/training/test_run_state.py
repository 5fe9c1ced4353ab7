"""A save is what was written: a damaged one is named, and the one before is taken."""

import pytest
import torch

from gloam.errors import StoreError
from gloam.training.run_state import RunState
from tests.damage import flip, named_or_harmless


def saved(folder, world=1):
    states = [RunState(folder, {"seed": 1}, rank, world) for rank in range(world)]
    for step in (1, 2, 3):
        for state in reversed(states):  # that of rank 0 names the step
            state.save(step, {"weights": torch.full((50,), float(step)), "rank": state.rank})
    return states


def read(state, said=None):
    value = state.load(None if said is None else said.append)
    return value["step"], value["weights"].tolist()


def test_two_saves_are_kept_with_their_checksums(tmp_path):
    state = saved(tmp_path)[0]
    assert read(state) == (3, [3.0] * 50)
    names = [f"step-0000000{step}-rank0.pt{suffix}" for step in (2, 3) for suffix in ("", ".sha256")]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["newest.json", *names]


def test_a_flipped_bit_of_the_newest_name_is_named(tmp_path):
    state = saved(tmp_path)[0]
    assert named_or_harmless(tmp_path / "state" / "newest.json", lambda: read(state), 200) >= 199


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_a_damaged_save_is_said_and_the_one_before_is_taken(tmp_path, suffix):
    states = saved(tmp_path, world=2)
    damaged = tmp_path / "state" / f"step-00000003-rank1.pt{suffix}"
    whole = damaged.read_bytes()
    for bit in range(0, 8 * min(len(whole), 64), 7):
        flip(damaged, bit)
        for state in states:
            said = []
            assert read(state, said) == (2, [2.0] * 50)
            assert said == [
                f"{tmp_path / 'state' / 'step-00000003-rank1.pt'}: the state is damaged; looking for the save before it"
            ]
        damaged.write_bytes(whole)
    flip(damaged)
    flip(tmp_path / "state" / "step-00000002-rank0.pt")
    with pytest.raises(StoreError, match=r"step-00000003-rank1\.pt: the state is not readable; remove .*newest\.json"):
        states[0].load()


def test_a_save_without_a_checksum_is_of_before(tmp_path):
    state = saved(tmp_path)[0]
    for path in (tmp_path / "state").glob("*.sha256"):
        path.unlink()
    assert read(state) == (3, [3.0] * 50)
    (tmp_path / "state" / "step-00000003-rank0.pt").write_bytes(b"half")
    with pytest.raises(StoreError, match="the state is not readable"):
        state.load()
