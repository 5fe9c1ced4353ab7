"""Commands killed at their borders, run again, and compared byte for byte with runs that were left alone.

Every command runs in a process of its own that counts what it does to its output folder (opens for writing, renames,
removals, new folders) and sends itself SIGKILL at one of them, or a moment after, so that C code is hit too. Where is
drawn from a fixed seed. Some runs are killed a second time while they recover. Then the same command must end well,
leave the bytes of the undisturbed run, file names included, and no temporary file.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.result import Result
from benchmarks.shared.tiny import embedder_and_translator, parquet_of, tar_of, translator_recipe
from gloam.cli.main import main as gloam
from gloam.files import sha256_file

KILLS = 6  # of each command
TWICE = 3  # every so many runs are killed once more while they recover
LATEST = 0.25  # seconds after the operation
CHILD = "import sys; from benchmarks.kills import child; sys.exit(child(*sys.argv[1:]))"
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
TIMED = ("train.json", "losses.csv", "report.html", "tensorboard/*", "state/*")  # hold seconds, or lead to such a run


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: of the row.
        words: of the command; OUT stands for its output.
        begun: a folder that the output is a copy of before the command begins.
        left_out: patterns of files that hold times and are not compared.
    """

    name: str
    words: tuple[str, ...]
    begun: Path | None = None
    left_out: tuple[str, ...] = ()


def child(folder: str, at: str, delay: str, counted: str, *words: str) -> int:
    """One command; dies at its ``at``-th operation on ``folder``, or ``delay`` seconds behind it; 0 lets it live."""
    place, number, wait = os.path.abspath(folder), int(at), float(delay)
    seen = [0]

    def die() -> None:
        time.sleep(wait)
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not set(mode or "") & set("wax+"):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(place):
            return
        seen[0] += 1
        if seen[0] == number:
            threading.Thread(target=die, daemon=True).start() if wait else die()

    sys.addaudithook(hook)
    code = gloam(words)
    Path(counted).write_text(str(seen[0]))
    return code


def start(job: Job, output: Path, at: int = 0, delay: float = 0.0) -> tuple[int, str, int]:
    """Exit code, last line of stderr, and how many operations a whole run does."""
    counted = output.with_suffix(".count")
    words = [word.replace("OUT", str(output)) for word in job.words]
    command = [sys.executable, "-c", CHILD, str(output), str(at), str(delay), str(counted), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or [""]
    return done.returncode, lines[-1], int(counted.read_text()) if done.returncode == 0 else 0


def digests(job: Job, folder: Path) -> dict[str, str]:
    """sha256 of every file that counts, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = ((path.relative_to(folder).as_posix(), path) for path in files)
    return {name: sha256_file(path) for name, path in named if not any(fnmatch(name, part) for part in job.left_out)}


def begin(job: Job, output: Path) -> None:
    """The output folder as the command finds it."""
    shutil.rmtree(output, ignore_errors=True)
    if job.begun is not None:
        shutil.copytree(job.begun, output)


def killed(job: Job, root: Path, rng: np.random.Generator, kills: int) -> dict[str, Any]:
    """What became of a command that was killed so many times."""
    whole, output = root / "whole", root / "cut"
    begin(job, whole)
    code, line, operations = start(job, whole)
    if code:
        return {"kills": 0, "whole": 0, "faults": [f"the undisturbed run ended with {code}: {line}"]}
    truth = digests(job, whole)
    begin(job, output)
    start(job, output)
    faults = [] if digests(job, output) == truth else ["two undisturbed runs differ"]
    happened = good = 0
    for run in range(10 * kills):
        if happened >= kills:
            break
        begin(job, output)
        points = []
        for _ in range(1 + (run % TWICE == TWICE - 1)):
            point = (int(rng.integers(1, operations + 1)), float(rng.uniform(0, LATEST)) if rng.random() < 0.3 else 0.0)
            code, line, _ = start(job, output, *point)
            points += [point] if code == -signal.SIGKILL else []
            if code not in (0, -signal.SIGKILL):
                faults.append(f"killed at {points}, then it ended with {code}: {line}")
        if not points:  # it was quicker than its death
            continue
        happened += len(points)
        code, line, _ = start(job, output)
        found = digests(job, output)
        if code == 0 and found == truth:
            good += len(points)
            continue
        names = sorted(name for name in {*found, *truth} if found.get(name) != truth.get(name))
        faults.append(f"killed at {points}: exit code {code} {line}; other than undisturbed: {names[:5]}")
    return {"operations": operations, "kills": happened, "whole": good, "faults": faults}


def quietly(*words: str) -> None:
    """A command of which the result alone matters.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run([sys.executable, "-m", "gloam.cli.main", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gloam {' '.join(words)}: {done.stderr.strip().splitlines()[-1:]}")


def jobs(root: Path) -> Iterator[Job]:
    """The commands, on what they read, made here."""
    town, folder = root / "town", root / "images"
    quietly("town", str(town), "--size", "256x192", "--queries", "4", "--length", "30", "--conditions", "day,night")
    pictures = sorted((town / "query").rglob("*.*g")) + sorted((town / "mapping").rglob("*.*g"))
    folder.mkdir()
    for path in pictures[:24]:
        shutil.copyfile(path, folder / f"{path.parent.name}-{path.name}")
    models = embedder_and_translator(root)
    tar, parquet = tar_of(folder, root / "images.tar"), parquet_of(folder, root / "images.parquet")
    extract = ("--model", models["embedder"], "-o", "OUT", "--shard-size", "4")
    for name, source in (("folder", folder), ("tar", tar), ("parquet", parquet)):
        yield Job(f"extract {name}", ("extract", str(source), *extract))
    translate = ("translate", str(folder), "--model", models["translator"], "-o", "OUT")
    yield Job("translate folder", translate)
    yield Job("translate tar", (*translate, "--tar", "--tar-size", "5"))
    yield from _index_jobs(root, town, models["embedder"])
    yield from _training_jobs(root, town)
    pairs = root / "pairs.txt"
    stores = [str(root / f"store-{part}") for part in ("query", "mapping")]
    quietly("pairs", "--query", stores[0], "--map", stores[1], "-k", "5", "-o", str(pairs))
    sides = ("--mapping", str(town / "mapping"), "--query", str(town / "query"), "--pairs", str(pairs))
    yield Job("localize", ("localize", *sides, "-o", "OUT"), left_out=("summary.json",))


def _index_jobs(root: Path, town: Path, model: str) -> Iterator[Job]:
    for part in ("query", "mapping"):
        quietly("extract", str(town / part), "--model", model, "-o", str(root / f"store-{part}"))
    query, mapping = str(root / "store-query"), str(root / "store-mapping")
    yield Job("index build", ("index", mapping, "-o", "OUT", "--shards", "2"))
    base = root / "index-base"
    quietly("index", mapping, "-o", str(base))
    other = root / "index-other"
    quietly("index", query, "-o", str(other))
    yield Job("index add", ("index", "--add", query, "-o", "OUT"), begun=base)
    yield Job("index merge", ("index", "--merge", str(base), str(other), "-o", "OUT"))


def _training_jobs(root: Path, town: Path) -> Iterator[Job]:
    domains, sets = root / "domains", root / "set.json"
    for domain in ("day", "night"):
        files = [path for path in sorted((town / "query").rglob("*.*g")) if f"{domain}" in path.as_posix()]
        (domains / domain).mkdir(parents=True)
        for number in range(8):
            shutil.copyfile(files[number % len(files)], domains / domain / f"{number}{files[0].suffix}")
    config = translator_recipe(root / "translator.yaml", domains)
    words = ("train", "translator", "--recipe", "cyclegan", "--config", str(config), "-o", "OUT")
    yield Job("train translator", words, left_out=TIMED)
    quietly(
        "dataset", "build", str(town / "mapping"), "-o", str(sets), "--side", "8", "--apart", "2", "--distance", "4"
    )
    small = ("network_options.width=8", "epochs=2", "tuples=8", "batch=2", "negatives=2", "workers=0", "threads=1")
    assigned = [part for item in (*small, "network=gem_resnet18", "maker=gamma") for part in ("--set", item)]
    given = ("--train", str(sets), "--validation", str(sets))
    yield Job("train metric", ("train", "metric", "--recipe", "town_day", *given, *assigned, "-o", "OUT"), None, TIMED)


def run(kills: int = KILLS, wanted: Callable[[str], bool] = lambda name: True) -> Result:
    """The share of kills that end in the bytes of an undisturbed run."""
    rng = np.random.default_rng(9)
    detail: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gloam-kills-") as temporary:
        root = Path(temporary)
        for job in jobs(root):
            if wanted(job.name):
                detail[job.name] = killed(job, root / job.name.replace(" ", "-"), rng, kills)
                print(f"{job.name}: {detail[job.name]}", file=sys.stderr, flush=True)
    happened = sum(row["kills"] for row in detail.values())
    good = sum(row["whole"] for row in detail.values())
    faults = sum(len(row["faults"]) for row in detail.values())
    met = good == happened and not faults and happened >= 60
    return Result(good / max(happened, 1), "share of kills", "1.0 of 60 kills or more", met, detail)
