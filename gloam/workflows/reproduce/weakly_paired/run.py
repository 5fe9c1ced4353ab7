"""``gloam reproduce weakly-paired``: which table or figure is meant."""

from __future__ import annotations

from gloam.heartbeat import Say
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.weakly_paired.figure7 import Figure7, reproduce_figure_7
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import PAPER, WeaklyPairedRequest
from gloam.workflows.reproduce.weakly_paired.table import WeaklyPairedTable, reproduce_table_2


def reproduce_weakly_paired(
    request: WeaklyPairedRequest, miniature: Miniature | None = None, say: Say | None = None
) -> WeaklyPairedTable | Figure7:
    """A table or figure of the paper, from what is there; see :func:`reproduce_table_2`, :func:`reproduce_figure_7`.

    Args:
        request: what and with what.
        miniature: of the town, which is rendered and trained on; None for the data folder.
        say: gets one line per step.

    Raises:
        UsageError: no such table; they are named.
        GloamError: a file that is there and cannot be used.
    """
    published(PAPER, request.table)
    if request.table == "figure7":
        return reproduce_figure_7(request, miniature, say)
    return reproduce_table_2(request, miniature, say)
