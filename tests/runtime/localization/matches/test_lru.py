"""What was used last stays, in so many bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gloam.runtime.localization.matches.lru import Lru


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept: Lru[str] = Lru(10)
    for key in "abc":
        kept.put(key, key.upper(), 3)
    assert kept.get("a") == "A"
    kept.put("d", "D", 4)
    assert ("a" in kept, "b" in kept, "c" in kept, "d" in kept) == (True, False, True, True)
    assert (kept.bytes, len(kept), kept.get("b")) == (10, 3, None)


def test_a_value_put_again_counts_once_and_one_too_large_is_not_kept() -> None:
    kept: Lru[str] = Lru(10)
    kept.put("a", "A", 6)
    kept.put("a", "B", 8)
    assert (kept.get("a"), kept.bytes) == ("B", 8)
    kept.put("a", "C", 11)
    assert (kept.get("a"), kept.bytes, len(kept)) == (None, 0, 0)
    kept.put("b", "D", 10)
    assert kept.get("b") == "D"


def test_without_a_limit_all_is_kept() -> None:
    kept: Lru[int] = Lru()
    for key in range(100):
        kept.put(key, key, 1 << 40)
    assert (len(kept), kept.bytes) == (100, 100 << 40)


def test_threads_share_it() -> None:
    kept: Lru[int] = Lru(50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: (kept.put(key % 90, key, 1), kept.get(key % 7)), range(5000)))
    assert kept.bytes == len(kept) == 50


def test_the_limit_is_kept_at_every_moment() -> None:
    class Watched(Lru[str]):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "bytes" and isinstance(value, int):
                assert value <= 10
            super().__setattr__(name, value)

    held = Watched(10)
    for key, size in enumerate((4, 4, 4, 10, 3, 9)):
        held.put(key, "x", size)
    assert held.bytes == 9
