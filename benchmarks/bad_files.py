"""Damaged image files: each is read or refused in one named sentence, in bounded time and memory.

    python benchmarks/bad_files.py [--mutants 2000] [--out DIR]

Every mutant is a small sound file with seeded damage. Readers run in a process of their own that may take a gibibyte beyond
what Python and its libraries take, ten seconds a file, and 2**24 values an image. Odd seeds run with warnings as errors. What
was seen is kept in DIR and a second call goes on from there. Exit code 1 says that a file crashed, hung or raised what has no name.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pellucid.errors import BadImage
from pellucid.images import read_images
from pellucid.intervals import share_interval
from pellucid.testing import reading, sample_files, write_damaged

SECONDS = 10
MEMORY = 2**30
LIMIT = 2**24
FATAL = ("crash", "hang", "unnamed", "out of memory")


def attempt(path: Path) -> tuple[str, str]:
    """Read a file as an image, and its masks, and say how that went."""
    try:
        images = read_images(path, limit=LIMIT, **reading(path))
        images.tensor()
        for name in images.masks:
            images.mask(name)
    except BadImage as error:
        return ("unnamed", f"a refusal of several lines: {error}") if "\n" in str(error) else ("refused", str(error))
    except MemoryError as error:
        return "out of memory", repr(error)
    except Exception as error:  # noqa: BLE001  # that nothing else is raised is what is tested
        return "unnamed", repr(error)
    return "read", ""


def work(pipe: Connection) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    while True:
        path, strict = pipe.recv()
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strict else "ignore")
            pipe.send(attempt(path))


class Worker:
    """A process that reads files and is replaced when one ends it."""

    def __init__(self) -> None:
        self.process: multiprocessing.Process | None = None

    def read(self, path: Path, *, strict: bool) -> tuple[str, str, float]:
        if self.process is None:
            self.pipe, other = multiprocessing.Pipe()
            self.process = multiprocessing.get_context("spawn").Process(target=work, args=(other,), daemon=True)
            self.process.start()
            other.close()
            self.pipe.send((path.parent / "nothing", strict))
            self.pipe.recv()
        began = time.perf_counter()
        self.pipe.send((path, strict))
        try:
            outcome = self.pipe.recv() if self.pipe.poll(SECONDS) else ("hang", f"more than {SECONDS} s")
        except EOFError:
            outcome = ("crash", "the process ended")
        if outcome[0] in ("hang", "crash"):
            self.close()
        return *outcome, time.perf_counter() - began

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def run(mutants: int, out: Path) -> list[dict[str, object]]:
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "seen.jsonl"
    seen = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(one["sample"], one["seed"]) for one in seen}
    samples = sample_files(out / "sound")
    asked = [(sample, seed) for seed in range(-(-mutants // len(samples))) for sample in samples][:mutants]
    worker = Worker()
    with kept.open("a") as file, tempfile.TemporaryDirectory() as scratch:
        for sample, seed in track([one for one in asked if (one[0].name, one[1]) not in done], "reading damaged files"):
            path = write_damaged(sample, Path(scratch), seed)
            how, said, seconds = worker.read(path, strict=bool(seed % 2))
            seen.append({"sample": sample.name, "seed": seed, "how": how, "said": said, "seconds": round(seconds, 3)})
            file.write(json.dumps(seen[-1]) + "\n")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    worker.close()
    return seen


def told(seen: list[dict[str, object]]) -> int:
    console, table = Console(width=120), Table("sample", "read", "refused", *FATAL, "longest, s")
    for sample in [*sorted({str(one["sample"]) for one in seen}), "all"]:
        own = [one for one in seen if sample in ("all", one["sample"])]
        counts = Counter(str(one["how"]) for one in own)
        table.add_row(
            sample,
            *(str(counts[how]) for how in ("read", "refused", *FATAL)),
            f"{max(float(str(one['seconds'])) for one in own):.2f}",
        )
    console.print(table)
    bad = [one for one in seen if one["how"] in FATAL]
    share = share_interval(len(bad), len(seen))
    console.print(
        f"crashed, hung, out of memory or unnamed: {len(bad)}/{len(seen)} (95 % interval {share.low:.2%} to {share.high:.2%})"
    )
    full = sum(
        any(word in str(one["said"]) for word in ("MemoryError", "allocate")) for one in seen if one["how"] == "refused"
    )
    console.print(
        f"refused by name only where the memory ended, after a header claimed more than there was: {full}/{len(seen)}"
    )
    for one in bad[:20]:
        console.print(f"{one['sample']} seed {one['seed']}: {one['how']}: {one['said']}", markup=False)
    return int(bool(bad))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("bad_files"))
    asked = parser.parse_args()
    return told(run(asked.mutants, asked.out))


if __name__ == "__main__":
    raise SystemExit(main())
