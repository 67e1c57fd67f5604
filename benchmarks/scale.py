"""How a study grows: generated images of 28 pixels, two cheap methods, three metrics, one process or a Dask cluster.

python benchmarks/scale.py                          1,000 and 10,000 images
python benchmarks/scale.py 1000 10000 100000        the long form (hours on two cores)
python benchmarks/scale.py 10000 --workers 2        the tasks on a Dask cluster of two processes beside one
python benchmarks/scale.py --plan                   the plan of a million images

For every size: CPU and wall time an image of the tasks, highest memory, time to resume a finished study, time to resume one of which
the last part was lost, and bytes on disk an image. Explaining and testing are timed apart from the conclusions, which need all scores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pellucid.models import Model, Source, residual_net, save_model
from pellucid.study.choose import choose_images
from pellucid.study.plan import Plan
from pellucid.study.store import Store

STUDY = """\
[images]
path = "images.npz"
[model]
weights = "net.safetensors"
[explain]
methods = ["saliency", "input_x_gradient"]
images = 0
[evaluate]
metrics = ["sparseness", "complexity", "monotonicity(steps=4)"]
[run]
shard = {shard}
threads = 1
batch_size = 64
[store]
maps = 256
reduced = 7
"""
RUN = """
import json, resource, sys, time
import pellucid.study.runner as runner
from pellucid.study import Study
spent = {}
def clocked(name):
    real = getattr(runner, name)
    def timed(*args, **options):
        began, own = time.perf_counter(), time.process_time()
        try:
            return real(*args, **options)
        finally:
            spent[name] = [time.perf_counter() - began, time.process_time() - own,
                           resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    setattr(runner, name, timed)
if __name__ == "__main__":
    for name in ("ensure_predictions", "ensure_plan", "ensure_self_test", "run_parts", "ensure_conclusions"):
        clocked(name)
    began = time.perf_counter()
    study = Study.create(sys.argv[1], sys.argv[2])
    spent["create"] = [time.perf_counter() - began, 0, 0]
    study.run(scheduler=sys.argv[3] if len(sys.argv) > 3 else None)
    spent["all"] = [time.perf_counter() - began, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    print(json.dumps(spent))
"""


def bench(home: Path, count: int, shard: int) -> Path:
    """Write an archive of generated images, a small net and the study file."""
    home.mkdir()
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 120, (count, 28, 28), dtype=np.uint8)
    images[labels == 1, 8:14, 8:14] += 100
    np.savez(home / "images.npz", test_images=images, test_labels=labels[:, None])
    settings = {"classes": 2, "channels": 1, "dims": 2, "width": 4, "depth": 2, "stem_stride": 1}
    torch.manual_seed(0)
    source = Source(factory="pellucid.models.networks:residual_net", settings=settings)
    save_model(Model(residual_net(**settings).eval(), task="classification", source=source), home / "net.safetensors")
    (home / "study.toml").write_text(STUDY.format(shard=shard))
    return home / "study.toml"


def run(toml: Path, out: Path, *scheduler: str) -> dict[str, list[float]]:
    """Run a study in a process of its own and return wall seconds, CPU seconds and highest memory by step."""
    command = [sys.executable, "-c", RUN, str(toml), str(out), *scheduler]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return spent


def size(folder: Path) -> int:
    """Return the bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def grown(home: Path, count: int, shard: int) -> None:
    """Measure one size."""
    toml = bench(home, count, shard)
    out = home / "out"
    first = run(toml, out)
    again = run(toml, out)
    last = max((out / "scores").glob("part-*"))
    last.unlink()
    mended = run(toml, out)
    wall, own, memory = first["run_parts"]
    print(
        f"{count:>9,} images in {-(-count // shard):,} tasks: {1000 * own / count:.2f} ms CPU and {1000 * wall / count:.2f} ms wall an image; "
        f"memory {first['ensure_self_test'][2]:.0f} MB before the tasks, {memory:.0f} MB after them, {first['all'][2]:.0f} MB at the end; predictions {first['ensure_predictions'][0]:.1f} s, "
        f"plan {first['ensure_plan'][0]:.1f} s, conclusions {first['ensure_conclusions'][0]:.1f} s; "
        f"resume of the finished study {again['all'][0]:.1f} s; one lost part: back to work after "
        f"{mended['all'][0] - mended['ensure_conclusions'][0] - mended['run_parts'][0]:.1f} s; "
        f"{size(out / 'scores') / count:.0f} bytes of scores and {size(out / 'maps.zarr') / count:.0f} of maps an image",
        flush=True,
    )


def spread(home: Path, count: int, shard: int, workers: int) -> None:
    """Measure the tasks of one size on one and on several Dask workers, and compare the parts."""
    from distributed import LocalCluster  # noqa: PLC0415  # an extra

    toml, walls = bench(home, count, shard), []
    for number in (1, workers):
        with LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
            run(toml, home / f"warm-{number}", cluster.scheduler_address)
            walls.append(run(toml, home / f"out-{number}", cluster.scheduler_address)["run_parts"][0])
    parts = [
        [path.read_bytes() for path in sorted((home / f"out-{number}" / "scores").iterdir())] for number in (1, workers)
    ]
    print(f"{count:,} images: {walls[0]:.1f} s on one Dask worker, {walls[1]:.1f} s on {workers}: {walls[0] / walls[1]:.2f} times as fast; "
          f"parts bitwise {'equal' if parts[0] == parts[1] else 'DIFFERENT'}")  # fmt: skip


def plan(home: Path, count: int) -> None:
    """Choose and plan so many images that do not exist."""
    ids = pa.array([f"plate{number // 1000:04d}/{number:07d}.tif" for number in range(count)])
    labels = pa.array(np.arange(count) % 3)
    predictions = pa.table({"image": ids, "label": labels, "predicted": pa.array(np.arange(count) % 2)})
    began = time.process_time()
    chosen = choose_images(predictions, predictions["image"].to_pylist(), 0)
    store = Store(home)
    made = Plan(batch_size=64, threads=1, device="cpu", dtype="float32", shard=64, methods=("saliency",), metrics=("sparseness",),
                definitions={}, ids=chosen, whole=1000)  # fmt: skip
    store.write_settings({"seed": 0, "provenance": {"format": 2}, "plan": made.settings(store.write_manifest(chosen))})
    middle = time.process_time()
    read = Plan.from_settings(store.settings()["plan"], store.manifest(store.settings()["plan"]))
    print(f"plan of {count:,} images: made in {middle - began:.1f} s and read in {time.process_time() - middle:.1f} s of CPU, {read.tasks:,} tasks, "
          f"study.toml {store.study_file.stat().st_size:,} bytes")  # fmt: skip
    assert read == made


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--plan", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if asked.plan:
            plan(Path(folder), 1_000_000)
        for count in asked.counts or ([] if asked.plan else [1000, 10_000]):
            if asked.workers:
                spread(Path(folder) / str(count), count, asked.shard, asked.workers)
            else:
                grown(Path(folder) / str(count), count, asked.shard)


if __name__ == "__main__":
    main()
