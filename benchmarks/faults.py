"""What a study survives: it is killed at random moments and at every write, starved of disk, and compared with an unbroken run.

python benchmarks/faults.py                       60 random kills (inline, pool, Dask), a kill at every write, and the other faults
python benchmarks/faults.py --short               the form that the tests run

Every broken study is resumed; each of its files must then equal, byte by byte, that of the unbroken study, and every score must be
there once. Only clocks (costs/, runs.json) and the report that prints them may differ.
"""

import argparse
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tifffile
import torch
from PIL import Image

from pellucid.errors import PellucidError
from pellucid.models import Model, Source, residual_net, save_model
from pellucid.study import Study

STUDY = """\
seed = 3
[images]
path = "data"
labels = "labels.csv"
masks = ["truth"]
split = "split"
[model]
weights = "net.safetensors"
[explain]
methods = ["saliency", "gradcam"]
images = 0
[evaluate]
metrics = ["relevance_mass", "sparseness"]
[slide]
path = "slide.tif"
target = "b"
tile = 16
halo = 4
shard = 32
[run]
shard = 1
threads = 1
batch_size = 4
[store]
maps = 8
reduced = 4
"""
IMAGES, CLOCKS = 12, ("costs", "runs.json", "report.html", ".lock")
CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50)
    print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
    sys.stdin.read()
    cluster.close()
"""


def bench(home: Path) -> Path:
    """Write images with masks, a slide of four shards, a small net and the study file."""
    numbers = np.random.default_rng(0)
    (home / "data").mkdir(parents=True)
    rows = ["image,label,split,truth"]
    for row in range(IMAGES):
        pixels = numbers.integers(0, 200, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "data" / f"im{row:02d}.png")
        mask = np.zeros((16, 16), np.uint8)
        mask[4:9, 4 + row % 4 : 9 + row % 4] = 255
        Image.fromarray(mask).save(home / "data" / f"mask{row:02d}.png")
        rows.append(f"im{row:02d}.png,{'ab'[row % 2]},test,mask{row:02d}.png")
    (home / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    tifffile.imwrite(home / "slide.tif", numbers.integers(0, 200, (48, 60), dtype=np.uint8))
    settings = {"classes": 2, "channels": 1, "dims": 2, "width": 4, "depth": 2, "stem_stride": 1}
    torch.manual_seed(0)
    source = Source(factory="pellucid.models.networks:residual_net", settings=settings)
    net = residual_net(**settings).eval()
    save_model(Model(net, classes=("a", "b"), task="classification", source=source), home / "net.safetensors")
    (home / "study.toml").write_text(STUDY)
    return home / "study.toml"


def contents(study: Path) -> dict[str, str]:
    """Return the hash of every file that must not depend on what happened on the way."""
    found = {}
    for path in sorted(study.rglob("*")):
        name = path.relative_to(study).as_posix()
        if path.is_file() and name.split("/")[0] not in CLOCKS:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def scores(study: Path) -> list[tuple[str, ...]]:
    """Return what each score is of."""
    keys = ("image", "method", "metric", "step", "seed")
    tables = [pq.read_table(path, columns=list(keys)) for path in sorted((study / "scores").glob("part-*.parquet"))]
    return [tuple(map(str, row.values())) for table in tables for row in table.to_pylist()]


class Tally:
    """How often each fault was tried, what was lost, and what differed."""

    def __init__(self, whole: Path) -> None:
        self.whole, self.expected = contents(whole), sorted(scores(whole))
        self.rows: dict[str, dict[str, int]] = {}

    def add(self, fault: str, study: Path, **counted: int) -> None:
        """Compare a resumed study with the unbroken one."""
        mine, files = scores(study), contents(study)
        row = self.rows.setdefault(fault, dict.fromkeys(("kills", "studies", "lost", "duplicated", "different"), 0))
        different = {name for name in {*files, *self.whole} if files.get(name) != self.whole.get(name)}
        for name in sorted(different):
            print(f"  {fault}: {study.name}: {name} differs")
        counted |= {"studies": 1, "lost": len(set(self.expected) - set(mine)), "duplicated": len(mine) - len(set(mine)),
                    "different": len(different)}  # fmt: skip
        for name, number in counted.items():
            row[name] += number
        print(f"  {fault}: " + ", ".join(f"{number} {name}" for name, number in row.items()), flush=True)

    def told(self, fault: str, *, held: bool) -> None:
        """Note a fault that must be refused in one sentence."""
        row = self.rows.setdefault(fault, {"tried": 0, "refused in a sentence": 0})
        row["tried"] += 1
        row["refused in a sentence"] += held

    def print(self) -> bool:
        """Print all rows; say whether nothing was lost."""
        for fault, row in self.rows.items():
            print(f"{fault}: " + ", ".join(f"{number} {name}" for name, number in row.items()))
        bad = sum(row.get(name, 0) for row in self.rows.values() for name in ("lost", "duplicated", "different"))
        return not bad and all(row.get("tried") == row.get("refused in a sentence") for row in self.rows.values())


def work(toml: Path, out: Path, before: Callable[[], None], options: dict[str, object]) -> None:
    """Run a study in a child; exit 0 when it ended, 3 on a refusal in one sentence, 4 on anything else."""
    try:
        before()
        Study.create(toml, out).run(**options)
    except PellucidError as error:
        print(f"  refused: {error}", flush=True)
        os._exit(3)
    except BaseException as error:  # noqa: BLE001  # whatever else breaks is what this looks for
        print(f"  broke with {type(error).__name__}: {error}", flush=True)
        os._exit(4)
    os._exit(0)


def child(
    toml: Path, out: Path, before: Callable[[], None] = lambda: None, **options: object
) -> multiprocessing.Process:
    """Fork a child that has everything imported already, so that a kill hits work and not the start."""
    process = multiprocessing.get_context("fork").Process(target=work, args=(toml, out, before, options))
    process.start()
    return process


def kills(toml: Path, home: Path, tally: Tally, fault: str, count: int, span: float, **options: object) -> None:
    """Kill a study at random moments of its span, three times before it may end, until `count` kills have struck."""
    struck, number, numbers = 0, 0, random.Random(fault)
    while struck < count:
        out, own = home / f"{fault.replace(' ', '_')}-{number}", 0
        while own < min(3, count - struck):
            began = time.perf_counter()
            process = child(toml, out, **options)
            process.join(numbers.uniform(0, span))
            ended = process.exitcode is not None
            process.kill()
            process.join()
            own += process.exitcode == -signal.SIGKILL
            if ended:
                span = time.perf_counter() - began  # the machine is faster than it was: aim at what a run takes now
                break
        resumed = child(toml, out, **options)
        resumed.join()
        struck, number = struck + own, number + 1
        if resumed.exitcode:
            print(f"  {fault}: {out.name} could not be resumed")
        tally.add(fault, out, kills=own)
        shutil.rmtree(out)


def at_write(number: int, deed: Callable[[Path], None]) -> Callable[[], None]:
    """Return what makes a child do a deed when it is about to put its n-th file in place."""

    def arrange() -> None:
        real, seen = Path.replace, [0]

        def replace(self: Path, target: Path) -> Path:
            seen[0] += 1
            if seen[0] == number:
                deed(Path(target))
            return real(self, target)

        Path.replace = replace

    return arrange


def writes(toml: Path, home: Path, tally: Tally, places: Iterator[int]) -> None:
    """Kill a study just before each of its writes is put in place."""
    for number in places:
        out = home / f"write-{number}"
        process = child(toml, out, at_write(number, lambda _: os.kill(os.getpid(), signal.SIGKILL)))
        process.join()
        resumed = child(toml, out)
        resumed.join()
        tally.add("kill before a write", out, kills=int(process.exitcode == -signal.SIGKILL))
        shutil.rmtree(out)
        if process.exitcode == 0:
            return


def raises(error: int) -> Callable[[Path], None]:
    """Return a deed that fails as the system would."""

    def deed(path: Path) -> None:
        raise OSError(error, os.strerror(error), str(path))

    return deed


def starved(toml: Path, home: Path, tally: Tally, fault: str, before: Callable[[], None]) -> None:
    """Run a study that cannot write, expect one sentence, then let it write."""
    out = home / fault.replace(" ", "_")
    process = child(toml, out, before)
    process.join()
    tally.told(f"{fault}, told", held=process.exitcode == 3)
    child(toml, out).join()
    tally.add(fault, out)


def full_disk(toml: Path, home: Path, tally: Tally) -> None:
    """Run a study on a file system too small for it, then on what a larger one holds of it."""
    disk, fault = home / "disk", "full file system"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        print("full file system: not tried, this user may not mount one")
        return
    try:
        process = child(toml, disk / "out")
        process.join()
        tally.told(f"{fault}, told", held=process.exitcode == 3)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        child(toml, disk / "out").join()
        tally.add(fault, disk / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def forbidden(toml: Path, home: Path, tally: Tally) -> None:
    """Run a half-done study in a directory that may not be written."""
    out = home / "forbidden"
    child(toml, out, at_write(30, lambda _: os.kill(os.getpid(), signal.SIGKILL))).join()
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [
        *drop,
        sys.executable,
        "-c",
        f"from pellucid.cli import app; app(['run', {str(toml)!r}, '--out', {str(out)!r}])",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    tally.told(
        "read-only directory, told",
        held=done.returncode == 2 and "Traceback" not in done.stderr and "denied" in done.stderr,
    )
    for folder in folders:
        folder.chmod(0o755)
    child(toml, out).join()
    tally.add("read-only directory", out)


def vanished(toml: Path, home: Path, tally: Tally) -> None:
    """Delete an image while the study runs: its rows alone are missing, and one sentence says so; then a part, which comes back."""
    other = bench(home / "vanishing")
    image = other.parent / "data" / "im05.png"
    out = home / "vanishing" / "out"
    child(other, out, at_write(24, lambda _: image.unlink())).join()
    failures = pq.read_table(out / "failures.parquet").to_pylist()
    gone = {row["image"] for row in failures if row["stage"] == "read"} == {"im05.png"}
    kept = {key for key in scores(out) if key[0] != "im05.png"} == {
        key for key in tally.expected if key[0] != "im05.png"
    }
    tally.told("vanished image, told", held=gone and kept)
    out = home / "part"
    child(toml, out, at_write(60, lambda _: (home / "part" / "scores" / "part-00001.parquet").unlink())).join()
    child(toml, out).join()
    tally.add("vanished part", out)


def twice(toml: Path, home: Path, tally: Tally) -> None:
    """Start a second run of a directory that is being run."""
    out = home / "twice"
    first = child(toml, out, at_write(40, lambda _: time.sleep(2)))
    while not (out / "scores").is_dir():
        time.sleep(0.01)
    second = child(toml, out)
    second.join()
    tally.told("second run of one directory, told", held=second.exitcode == 3)
    first.join()
    tally.add("second run of one directory", out)


@contextmanager
def cluster() -> Iterator[tuple[str, list[int]]]:
    """Give the address of a Dask scheduler and the ids of its two worker processes."""
    script = ["-c", CLUSTER]
    process = subprocess.Popen([sys.executable, *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address, *pids = process.stdout.readline().split()
        yield address, [int(pid) for pid in pids]
    finally:
        process.stdin.close()
        process.wait()


def on_dask(toml: Path, home: Path, tally: Tally, count: int) -> None:
    """Kill leaders and, apart, a worker: Dask gives its task to another."""
    with cluster() as (address, pids):
        began = time.perf_counter()
        child(toml, home / "dask", scheduler=address).join()
        span = time.perf_counter() - began
        tally.add("Dask, unbroken", home / "dask")
        began = time.perf_counter()
        child(toml, home / "dask-again", scheduler=address).join()
        kills(toml, home, tally, "Dask", count, min(span, time.perf_counter() - began), scheduler=address)
        run = child(toml, home / "worker", scheduler=address)
        while not (home / "worker" / "scores").is_dir():
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        run.join()
        tally.add("Dask worker killed", home / "worker", kills=int(run.exitcode == 0))


def main() -> int:
    """Run all faults and say what was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--inline", type=int, default=36, help="random kills of a study in one process")
    parser.add_argument("--pool", type=int, default=12, help="random kills of the leader of two worker processes")
    parser.add_argument("--dask", type=int, default=12, help="random kills of the leader on a Dask cluster")
    parser.add_argument("--writes", type=int, default=1, help="kill at every n-th write")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        toml = bench(home / "bench")
        began = time.perf_counter()
        child(toml, home / "whole").join()
        span = time.perf_counter() - began
        print(
            f"unbroken: {span:.1f} s, {len(scores(home / 'whole'))} scores, {len(contents(home / 'whole'))} files",
            flush=True,
        )
        tally = Tally(home / "whole")
        kills(toml, home, tally, "one process", 3 if asked.short else asked.inline, span)
        writes(toml, home, tally, iter((1, 31)) if asked.short else iter(range(1, 10_000, asked.writes)))
        starved(toml, home, tally, "disk full at a write", at_write(35, raises(28)))
        twice(toml, home, tally)
        if not asked.short:
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))  # noqa: E731
            starved(toml, home, tally, "file size limited", limit)
            full_disk(toml, home, tally)
            forbidden(toml, home, tally)
            vanished(toml, home, tally)
            began = time.perf_counter()
            child(toml, home / "pool", workers=2).join()
            tally.add("pool, unbroken", home / "pool")
            kills(toml, home, tally, "pool", asked.pool, time.perf_counter() - began, workers=2)
            on_dask(toml, home, tally, asked.dask)
        return 0 if tally.print() else 1


if __name__ == "__main__":
    sys.exit(main())
