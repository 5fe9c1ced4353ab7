"""Table 2: FID and SIFT distance by domain of the full model, its ablations and its baselines, beside the paper's."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gloam.data.town.drives.config import LOOK
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.errors import GloamError
from gloam.eval.translation.domains import FIGURES, UNTOUCHED
from gloam.files import load_json, sha256_file, sha256_json, write_json, write_text
from gloam.heartbeat import Say
from gloam.workflows.demo_embedder import SHIPPED
from gloam.workflows.evaluation.domains import DomainOptions, evaluate_domains, read_domains
from gloam.workflows.evaluation.translation import INCEPTION
from gloam.workflows.reproduce.images import made_of
from gloam.workflows.reproduce.published import PublishedTable, published
from gloam.workflows.reproduce.records import origin_of_run
from gloam.workflows.reproduce.rows import INCEPTION_WEIGHTS, Missing
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature, write_town_pairs
from gloam.workflows.reproduce.weakly_paired.request import (
    PAIRS,
    PAPER,
    PRODUCT,
    RECIPES,
    Generators,
    WeaklyPairedRequest,
    generators_of_papers,
    missing_pairs,
)

TABLE_CSV, TABLE_JSON = "table2.csv", "table2.json"


@dataclass(frozen=True)
class WeaklyPairedTable:
    """What came out.

    Attributes:
        published: the paper's numbers.
        ours: by row, what :meth:`gloam.eval.translation.domains.DomainTable.to_dict` has of a method.
        domains: in the order of the table.
        protocol: how it was measured; sources: images that were translated, by domain.
        missing: files that rows need.
        notes: to be read with it.
        output: folder of its files.
        made_by: by row, its file with sha256, and where it is from.
        page: with the table; None where there is none.
    """

    published: PublishedTable
    ours: Mapping[str, Mapping[str, Any]]
    domains: Sequence[str]
    protocol: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, int]]
    missing: Sequence[Missing] = ()
    notes: Sequence[str] = ()
    output: Path = field(default_factory=Path)
    made_by: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    page: Path | None = None

    @property
    def ran(self) -> bool:
        """Whether any method has numbers."""
        return any(row != UNTOUCHED for row in self.ours)

    def cell(self, row: str, domain: str, figure: str) -> tuple[float | None, float | None]:
        """The paper's number and ours of a domain, or of ``Mean`` or ``Std``, which the paper's columns give."""
        found = self.ours.get(row)
        ours: float | None = None
        if found is not None:
            known = found["domains"].get(domain)
            ours = found[domain.lower()][figure] if domain in ("Mean", "Std") else known and known[figure.lower()]
        return _printed(self.published, row, domain, figure), ours

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        columns = [*dict.fromkeys([*self.domains, *_domains(self.published)]), "Mean", "Std"]
        rows = {
            row: {
                domain: {
                    figure: dict(zip(("published", "ours"), self.cell(row, domain, figure), strict=True))
                    for figure in FIGURES
                }
                for domain in columns
            }
            for row in (UNTOUCHED, *self.published.rows)
        }
        return {
            "paper": PAPER,
            "table": "2",
            "rows": rows,
            "scores": {row: dict(scores) for row, scores in self.ours.items()},
            "protocol": dict(self.protocol),
            "sources": {name: dict(counts) for name, counts in self.sources.items()},
            "made_by": {row: dict(facts) for row, facts in self.made_by.items()},
            "page": None if self.page is None else str(self.page),
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """A row for each method, domain and figure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "domain", "figure", "published", "ours"])
        for row, domains in self.to_dict()["rows"].items():
            for domain, figures in domains.items():
                for figure, cell in figures.items():
                    values = ("" if value is None else f"{value:.6g}" for value in cell.values())
                    writer.writerow([row, domain, figure, *values])
        return text.getvalue()

    def to_text(self) -> str:
        """Domains by methods, the paper's number and ours, FID and then SIFT distance."""
        rows = [UNTOUCHED, *self.published.rows]
        domains = [*(self.domains or _domains(self.published)), "Mean", "Std"]
        width = max(map(len, domains)) + 2
        lines = [f"{PAPER}, table 2: {self.published.title}"]
        for figure in FIGURES:
            lines += ["", f"{figure}, paper / ours", " " * width + "".join(f"{row:>18}" for row in rows)]
            for domain in domains:
                cells = ("/".join(f"{_said(value):>8}" for value in self.cell(row, domain, figure)) for row in rows)
                lines.append(f"{domain:<{width}}" + "".join(f"{cell:>18}" for cell in cells))
        undefined = {row: found["mean"]["undefined"] for row, found in self.ours.items()}
        shares = [f"{row} {100 * share:.0f} %" for row, share in undefined.items() if share is not None]
        lines += ["", f"pairs without a SIFT distance: {', '.join(shares)}"] if shares else []
        lines += [
            f"{row}: {Path(one['file']).name} (sha256 {one['sha256'][:12]}); {facts['from']}"
            for row, facts in self.made_by.items()
            for one in facts["weights"]
        ]
        lines += [f"{key}: {value}" for key, value in self.protocol.items()]
        lines += [
            f"{domain}: {', '.join(f'{count} {name}' for name, count in counts.items())}"
            for domain, counts in self.sources.items()
        ]
        lines += [self.published.note, *self.notes]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        files = [self.output / TABLE_CSV, self.output / TABLE_JSON, *([] if self.page is None else [self.page])]
        return "\n".join([*lines, *map(str, files)])


def reproduce_table_2(
    request: WeaklyPairedRequest, miniature: Miniature | None = None, say: Say | None = None
) -> WeaklyPairedTable:
    """Judge every method that there is, and name what the others need; the same call carries on.

    Args:
        request: what and with what.
        miniature: of the town, which is rendered and trained on; None for the pair file of the data folder.
        say: gets one line per step.

    Raises:
        GloamError: a file that is there and cannot be used. A row whose training cannot be done is a note instead.
    """
    tell = say or (lambda line: None)
    table = published(PAPER, "2")
    missing = [] if miniature is not None else missing_pairs(request)
    inception = request.data / INCEPTION_WEIGHTS
    if miniature is None and not inception.is_file():
        from gloam.networks.inception import URL

        missing.append(Missing(inception, URL))
    if missing:
        found = WeaklyPairedTable(table, {}, (), {}, {}, missing, output=request.output)
        return _written(found)
    features, size = INCEPTION, DomainOptions.size
    weights: Path | None = inception
    notes = ["The paper's resolution is unpublished; images are stretched, and Inception's own resizing follows."]
    limit = request.limit
    if miniature is not None:
        learned, pairs = write_town_pairs(request.output / "town", miniature, tell)
        features, weights, size = str(SHIPPED[LOOK]["trained"]), None, miniature.size
        limit = limit or miniature.limit
        notes = [
            f"Procedural streets, small networks of at most {miniature.minutes:.3g} minutes of processor time, no "
            "VGG19; FID in the space of the demo's embedder: compare the order of rows with the paper's, not "
            "the numbers."
        ]
        domains = read_domains(pairs, "test")[0]
        supply = Generators(request, learned, request.output / "runs", domains, miniature.recipes())
    else:
        pairs = request.data / PAIRS
        domains = read_domains(pairs, "test")[0]
        supply = generators_of_papers(request, domains)
    options = DomainOptions(
        pairs, (), features, weights, limit=limit, size=size, seed=request.seed, device=request.device
    )
    made_by: dict[str, dict[str, Any]] = {}
    scored = {UNTOUCHED: _score(UNTOUCHED, None, options, request.output, tell)}
    for row in request.rows or RECIPES:
        try:
            model, absent = supply.find(row, tell)
            missing += absent
            if model is not None:
                scored[row] = _score(row, model, options, request.output, tell)
                made_by[row] = _facts(row, model, request)
        except GloamError as error:
            notes.append(f"{row}: {error}")
    first = scored[UNTOUCHED]
    sources = {name: first["sources"][name] for name in domains}
    ours = {row: data["methods"][row] for row, data in scored.items()}
    found = WeaklyPairedTable(table, ours, domains, first["protocol"], sources, missing, notes, request.output, made_by)
    return _written(found)


def _facts(row: str, model: Path, request: WeaklyPairedRequest) -> dict[str, Any]:
    """What a method's numbers are made by."""
    file = model / PRODUCT if model.is_dir() else model
    given = row in request.weights
    origin = "given with --weights" if given else origin_of_run(model, RECIPES[row])
    return {"weights": [{"file": str(file), "sha256": sha256_file(file)}], "from": origin}


def _score(row: str, model: Path | None, options: DomainOptions, output: Path, say: Say) -> dict[str, Any]:
    """Scores of one method, kept by what decides them."""
    file = None if model is None else model / PRODUCT if model.is_dir() else model
    stated = {
        "model": "none" if file is None else sha256_file(file),
        "pairs": sha256_file(options.pairs),
        "images": made_of([one.item for one in read_pair_file(options.pairs, "test").images]),
        "features": options.features,
        "weights": None if options.weights is None else sha256_file(options.weights),
        "of": [options.limit, options.size, options.seed],
    }
    kept = output / "scores" / f"{row}-{sha256_json(stated)[:16]}.json"
    if kept.is_file():
        found: dict[str, Any] = load_json(kept.read_text(encoding="utf-8"))
        return found
    say(f"{row}: judged by domain")
    methods = () if model is None else ((row, str(model)),)
    table = evaluate_domains(replace(options, methods=methods, untouched=model is None)).table
    write_json(kept, table.to_dict())
    return json.loads(json.dumps(table.to_dict()))  # type: ignore[no-any-return]  # of a dictionary


def _written(table: WeaklyPairedTable) -> WeaklyPairedTable:
    write_text(table.output / TABLE_CSV, table.to_csv())
    write_json(table.output / TABLE_JSON, table.to_dict())
    return table


def _domains(table: PublishedTable) -> list[str]:
    return list(dict.fromkeys(column.rpartition(" ")[0] for column in table.columns))


def _printed(table: PublishedTable, row: str, domain: str, figure: str) -> float | None:
    """A number of the paper's; its mean and sample deviation are those of its column."""
    values = dict(zip(table.columns, table.rows.get(row, ()), strict=False))
    column = [value for name, value in values.items() if name.endswith(f" {figure}") and value is not None]
    if domain == "Mean":
        return statistics.fmean(column) if column else None
    if domain == "Std":
        return statistics.stdev(column) if column else None
    return values.get(f"{domain} {figure}")


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
