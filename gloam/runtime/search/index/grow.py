"""Indexes that grow: a store added to one, several joined into one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gloam.errors import DataError, IncompatibleError, StoreError, UsageError, require
from gloam.files import replaced_when_whole, sha256_file
from gloam.heartbeat import progress_bar
from gloam.model_card import expect_same_space
from gloam.runtime.descriptors.reading import stated_rule
from gloam.runtime.descriptors.source import DescriptorSource, finite_blocks
from gloam.runtime.search.index.build import BLOCK, stated_options, write_vectors
from gloam.runtime.search.index.card import (
    CARD,
    SCHEMA,
    IndexCard,
    check_files,
    expect_new_names,
    expect_same_reading,
    new_files,
    package_versions,
    publish,
    read_index_card,
    read_names,
    remove_strays,
    sums_and_sizes,
    write_names,
)
from gloam.runtime.search.index.exact import exact_store
from gloam.runtime.search.index.read import read_part


def add_to_index(store: DescriptorSource, folder: str | Path, *, progress: bool = False) -> IndexCard:
    """Add the images of a store to an index; nothing is learned anew, and the search settings stay.

    A single file is written again with the new vectors; a sharded index gets one more shard. The recall in the card
    stays that of the build, with its number of vectors. What has just been added is not added again, so that the same
    call carries on after a kill at any moment.

    Args:
        store: descriptors of the index's space.
        folder: of the index, which stays as it was until the new one is whole.
        progress: say how far it is, on stderr.

    Raises:
        IncompatibleError: another space or dimension, or images that were read otherwise.
        DataError: an image is in the index already, twice in the store, or its descriptor is not finite.
        StoreError: no index, or a damaged one.
    """
    faiss = require("faiss", "cpu", "add to an index")
    place = Path(folder)
    card = read_index_card(place)
    options = stated_options(store)
    rules = stated_rule(card.options), stated_rule(options)
    expect_same_space(card.space, store.space, "the store to add", rules)
    if (store.dimension, store.metric) != (card.dimension, card.metric):
        raise IncompatibleError(
            f"{place}: descriptors of {store.dimension} values by {store.metric}, those of the index have "
            f"{card.dimension} by {card.metric}"
        )
    expect_same_reading(card.options, options, "the store to add")
    if not store.names:
        raise DataError(f"{place}: the store holds no descriptors, there is nothing to add")
    check_files(place, card)
    names = read_names(place, card)
    added = _content(store)
    if card.added == added and names[-len(store.names) :] == list(store.names):
        remove_strays(place)
        return card
    expect_new_names(set(names), store.names, str(place))
    sharded = len(card.files) > 1
    index = read_part(faiss, place / card.files[-1], card)
    if sharded:
        index.reset()
    elif index.ntotal != len(names):
        raise StoreError(f"{place}: {index.ntotal} vectors for {len(names)} names; build the index again")
    with new_files(place, 1, after=len(card.files) if sharded else 0) as new:
        write_names(place / new.names, [*names, *store.names])
        with progress_bar(len(store.names), "indexing", "vectors", shown=progress) as bar:
            ends = [index.ntotal + len(store.names)]
            write_vectors(faiss, index, store, [place / new.files[0]], ends, done=bar.update)
        files = [*card.files, new.files[0]] if sharded else new.files
        sums, sizes = sums_and_sizes(place, [new.files[0], new.names])
        kept = card.files if sharded else []
        grown = replace(
            card,
            schema=SCHEMA,
            count=card.count + len(store.names),
            versions=package_versions(str(faiss.__version__)),
            files=files,
            names=new.names,
            sha256={name: card.sha256[name] for name in kept} | sums,
            sizes={name: (place / name).stat().st_size for name in kept} | sizes,
            exact=[*card.exact, exact_store(store)] if card.exact else [],
            added=added,
        )
        publish(place, grown)
    return grown


def _content(store: DescriptorSource) -> str:
    """Checksum of names and descriptors."""
    digest = hashlib.sha256("\n".join(store.names).encode())
    for _, rows in finite_blocks(store, BLOCK):
        digest.update(rows.astype("<f4").tobytes())
    return digest.hexdigest()


def merge_indexes(folders: Sequence[str | Path], output: str | Path, *, progress: bool = False) -> IndexCard:
    """Join indexes into a new one, whose shards are the files of the old, copied and verified.

    Each shard keeps what it learned: centroids of two trainings differ, and their lists must not be poured together.
    The search settings are the largest of the parts. The recall of the whole is not known, and the card states none.

    Args:
        folders: two indexes or more, of one space and one factory.
        output: folder of the new index; none of the old.
        progress: say how far it is, on stderr.

    Raises:
        UsageError: fewer than two, or the output is one of them.
        IncompatibleError: they differ in space, dimension, factory, or in how the images were read.
        DataError: an image is in two of them.
        StoreError: no index, or a damaged one.
    """
    faiss = require("faiss", "cpu", "merge indexes")
    places, target = [Path(folder) for folder in folders], Path(output)
    if len(places) < 2:
        raise UsageError("a merge needs two indexes or more")
    if target.resolve() in {place.resolve() for place in places}:
        raise UsageError(f"{target}: cannot be merged into itself; choose another output folder")
    cards = [read_index_card(place) for place in places]
    first = cards[0]
    known: set[str] = set()
    names: list[str] = []
    for place, card in zip(places, cards, strict=True):
        rules = stated_rule(first.options), stated_rule(card.options)
        expect_same_space(first.space, card.space, str(place), rules)
        if bool(card.exact) != bool(first.exact):
            raise IncompatibleError(f"{place}: only one of these indexes is re-ranked from a store; build them alike")
        if (card.factory, card.dimension, card.metric) != (first.factory, first.dimension, first.metric):
            raise IncompatibleError(
                f"{place}: an index {card.factory!r} of {card.dimension} values, {places[0]} is "
                f"{first.factory!r} of {first.dimension}; build them alike"
            )
        expect_same_reading(first.options, card.options, str(place))
        check_files(place, card, sizes_only=True)  # the checksums are compared on the copies
        part = read_names(place, card)
        if len(part) != card.count:
            raise StoreError(f"{place / CARD}: states {card.count} vectors for {len(part)} names; build it again")
        expect_new_names(known, part, str(place))
        names += part
    parts = zip(places, cards, strict=True)
    sources = [(place / name, card.sha256[name]) for place, card in parts for name in card.files]
    settings = {key for card in cards for key in card.search}
    with new_files(target, len(sources)) as new:
        with progress_bar(len(sources), "merging", "files", shown=progress) as bar:
            for (source, expected), name in zip(sources, new.files, strict=True):
                with replaced_when_whole(target / name) as temporary:
                    shutil.copyfile(source, temporary)
                    if sha256_file(temporary) != expected:
                        raise StoreError(f"{source}: damaged, its checksum differs; build the index again")
                bar.update(1)
        write_names(target / new.names, names)
        sums, sizes = sums_and_sizes(target, [*new.files, new.names])
        merged = replace(
            first,
            schema=SCHEMA,
            count=len(names),
            versions=package_versions(str(faiss.__version__)),
            files=new.files,
            names=new.names,
            sha256=sums,
            sizes=sizes,
            search={key: max(card.search.get(key, 0) for card in cards) for key in sorted(settings)},
            recall={},
            exact=[store for card in cards for store in card.exact],
            added="",
        )
        publish(target, merged)
    return merged
