"""Images in the cells of Parquet files: plain bytes, or the {bytes, path} that Hugging Face datasets hold.

Cells are read in order, some rows at a time; a jump begins at its row group. Memory is that of the rows held.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gloam.data.images import MAX_BYTES, TOO_LONG
from gloam.data.sources.files import Files, NoAnswer, base_name
from gloam.data.sources.items import ImageItem, ImageList, Record, make_item
from gloam.data.text import plain_name
from gloam.errors import DataError, ImageError
from gloam.files import Stamp

IMAGE_COLUMNS = ("image", "bytes")
NAME_COLUMNS = ("name", "path", "key")
ROWS = 32  # read at once
HELD = 8  # such batches: more than the images in flight, whose threads ask out of order
OPEN = 2  # tables: the last images of one and the first of the next are asked for together
BUFFER = 1 << 20  # bytes of a column chunk in memory; without it the whole chunk would be


@dataclass(frozen=True)
class Cell:
    """The bytes of one cell.

    Attributes:
        tables, table: the file.
        row: in it.
    """

    tables: Tables
    table: int
    row: int

    @property
    def container(self) -> str:
        """The file's name."""
        return base_name(self.tables.paths[self.table])

    def read(self) -> bytes:
        """See :class:`gloam.data.sources.items.Origin`."""
        return self.tables.cell(self.table, self.row)

    def stamp(self) -> Stamp | None:
        """See :class:`gloam.data.sources.items.Origin`."""
        table = self.tables.files.stamp(self.tables.paths[self.table])
        return None if table is None else Stamp(f"row {self.row} of {table.text}", table.changed_ns)


def parquet_images(files: Files, paths: Sequence[str]) -> ImageList:
    """The images of Parquet files, in the order of the files and of their rows.

    Names come from a column ``name``, ``path`` or ``key`` of text or whole numbers, or from the ``path`` beside the
    bytes; without either they are the file's name and the row.

    Raises:
        DataError: a file that can be read has no column of image bytes, or one of names that are none.
    """
    tables, places = Tables(files, paths), [Path(path) for path in paths]

    def records() -> Iterator[Record]:
        for number, path in enumerate(paths):
            try:
                for row, name in enumerate(_names(files, path)):
                    yield name, number, row, None
            except NoAnswer as error:
                raise DataError(f"{path}: {error}; run again when it answers") from error
            except (pa.ArrowException, OSError, ValueError, ImageError) as error:  # UnicodeDecodeError of a name
                yield base_name(path), number, 0, f"{base_name(path)}: {_reason(error)}"

    item = partial(_item, tables, places)
    return ImageList(records(), item, repeated="another image has this name, in {first}; names must differ")


def _item(tables: Tables, places: Sequence[Path], record: Record) -> ImageItem:
    name, number, row, problem = record
    if problem is not None:
        return ImageItem(name, places[number], problem)
    return make_item(name, places[number], Cell(tables, number, row))


class Tables:
    """Cells of several Parquet files, whatever thread asks.

    Args:
        files, paths: the files.
    """

    def __init__(self, files: Files, paths: Sequence[str]) -> None:
        self.files = files
        self.paths = list(paths)
        self._lock = Lock()
        self._open: OrderedDict[int, _Table] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Tables, (self.files, self.paths)

    def cell(self, table: int, row: int) -> bytes:
        """The bytes of one cell; a failure is an ImageError."""
        with self._lock:
            try:
                if table not in self._open:
                    self._open[table] = _Table(self.files, self.paths[table])
                    if len(self._open) > OPEN:
                        self._open.popitem(last=False)
                self._open.move_to_end(table)
                content = self._open[table].cell(row)
            except (pa.ArrowException, OSError, ValueError, DataError) as error:
                self._open.pop(table, None)
                raise ImageError(_reason(error)) from error
        if not content:
            raise ImageError("the cell holds no bytes")
        if len(content) > MAX_BYTES:
            raise ImageError(TOO_LONG)
        return content


class _Table:
    """One open file and the rows around the last one that was asked for."""

    def __init__(self, files: Files, path: str) -> None:
        self._file = _open(files, path)
        self._column = _image_column(self._file.schema_arrow, path)
        groups = self._file.metadata.num_row_groups
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(groups)]
        self._begins = [sum(sizes[:group]) for group in range(groups)]
        self._held: deque[tuple[int, Any]] = deque(maxlen=HELD)
        self._next = 0
        self._batches: Iterator[Any] = iter(())

    def cell(self, row: int) -> bytes | None:
        group = max(number for number, begin in enumerate(self._begins) if begin <= row)
        oldest = self._held[0][0] if self._held else self._next
        if row < oldest or self._begins[group] > self._next or self._next == 0:
            self._held.clear()
            self._next = self._begins[group]
            self._batches = self._file.iter_batches(
                ROWS, range(group, len(self._begins)), [self._column], use_threads=False
            )
        while self._next <= row:
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(f"row {row} is not there")
            values = batch.column(0)
            self._held.append((self._next, values.field("bytes") if pa.types.is_struct(values.type) else values))
            self._next += len(values)
        for begin, values in self._held:
            if begin <= row < begin + len(values):
                content: bytes | None = values[row - begin].as_py()
                return content
        raise OSError(f"row {row} is not there")


def _open(files: Files, path: str) -> pq.ParquetFile:
    handle = files.open(path)
    try:
        return pq.ParquetFile(handle, buffer_size=BUFFER, pre_buffer=False)
    except BaseException:
        handle.close()
        raise


def _names(files: Files, path: str) -> Iterator[str]:
    with contextlib.closing(_open(files, path)) as file:
        schema = file.schema_arrow
        image = _image_column(schema, path)
        given = [name for name in NAME_COLUMNS if name in schema.names]
        texts = [name for name in given if _is_name(schema.field(name).type)]
        if given and not texts:
            raise DataError(
                f"{path}: column {given[0]!r} holds {schema.field(given[0]).type}; names are text or whole numbers, or "
                f"no column is called {', '.join(NAME_COLUMNS)}"
            )
        beside = pa.types.is_struct(schema.field(image).type) and schema.field(image).type.get_field_index("path") >= 0
        row = 0
        columns = texts[:1] or ([f"{image}.path"] if beside else []) or None
        for batch in file.iter_batches(4096, columns=columns, use_threads=False):
            if texts:
                values = batch.column(0).to_pylist()
            elif beside:
                values = batch.column(0).field("path").to_pylist()
            else:
                values = [None] * len(batch)
            for value in values:
                if isinstance(value, bytes):
                    value = value.decode("utf-8", "surrogateescape")
                yield f"{Path(path).stem}/{row:08d}" if value in (None, "") else plain_name(str(value))
                row += 1


def _image_column(schema: Any, path: str) -> str:
    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return name
    raise DataError(
        f"{path}: no column 'image' or 'bytes' holds image files' bytes; it has {', '.join(schema.names[:20])}"
    )


def _is_name(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    return any(check(kind) for check in (*checks, pa.types.is_binary, pa.types.is_large_binary))


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    return f"cannot be read: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
