"""A generated pyramidal slide explained tile by tile where it holds tissue: time and highest memory as it grows.

python benchmarks/slide.py            2,500 and 5,000 pixels a side
python benchmarks/slide.py 20000      the long form
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

TILE = 512
STEPS = (1, 4, 16)
RUN = """
import json, resource, sys, time
import torch
from torch import nn
from pellucid.models import Model
from pellucid.study.slide import explain_slide

class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x):
        return self.body(x).sum((2, 3))

torch.set_num_threads(1)
slide, out, tile, halo = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, own = time.perf_counter(), time.process_time()
found = explain_slide(Model(Summed().eval()), slide, "input_x_gradient", out, target=1, um_per_px=0.5, tile=tile, halo=halo, shard=4 * tile,
                      batch_size=2, tissue="saturation(share=0.05)")
print(json.dumps({"explained": int((found.outputs == found.outputs).sum()), "wall": time.perf_counter() - began, "cpu": time.process_time() - own, "before": before / 1024,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def painted(place: int) -> np.ndarray:
    """Paint one tile of dark dots in stained tissue, the same whenever it is asked for; every third tile is empty glass."""
    random = np.random.default_rng(place)
    yy, xx = np.mgrid[:TILE, :TILE]
    tile = np.full((TILE, TILE, 3), (230, 190, 210) if place % 3 else 240, np.uint8)
    dots = random.integers([[20], [20], [4]], [[TILE - 20], [TILE - 20], [16]], (3, 60 * bool(place % 3)))
    for y, x, radius in zip(*dots, strict=True):
        around = slice(y - radius, y + radius), slice(x - radius, x + radius)
        tile[around][(yy[around] - y) ** 2 + (xx[around] - x) ** 2 < radius**2] = (120, 60, 150)
    return tile + random.integers(0, 12, tile.shape, dtype=np.uint8)


def tiles(side: int, step: int) -> Iterator[np.ndarray]:
    """Yield the tiles of a level whose pixels are the mean of `step` by `step` of the finest."""
    across, each = -(-side // TILE), TILE // step
    for row, column in product(range(-(-side // (step * TILE))), repeat=2):
        tile = np.zeros((TILE, TILE, 3), np.uint8)
        for y, x in product(range(step), repeat=2):
            fine = row * step + y, column * step + x
            if max(fine) < across:
                means = painted(fine[0] * across + fine[1]).reshape(each, step, each, step, 3).mean((1, 3))
                tile[y * each : (y + 1) * each, x * each : (x + 1) * each] = means
        yield tile


def write(path: Path, side: int) -> None:
    """Write a pyramidal slide of 0.5 µm pixels, tile by tile."""
    options = {"dtype": np.uint8, "tile": (TILE, TILE), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level, step in enumerate(STEPS):
            file.write(
                tiles(side, step), shape=(-(-side // step), -(-side // step), 3), subifds=None if level else len(STEPS) - 1,
                subfiletype=int(level > 0), resolution=(20_000 / step, 20_000 / step), resolutionunit="CENTIMETER", **options,
            )  # fmt: skip


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", nargs="*", type=int)
    with tempfile.TemporaryDirectory() as folder:
        for side in parser.parse_args().sides or [2500, 5000]:
            slide = Path(folder) / f"slide{side}.tif"
            write(slide, side)
            command = [sys.executable, "-c", RUN, str(slide), str(Path(folder) / f"map{side}.ome.zarr"), str(TILE), "8"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            spent = json.loads(done.stdout)
            count = (-(-side // TILE)) ** 2
            print(
                f"{side:,} × {side:,} pixels, {spent['explained']:,} of {count:,} tiles hold tissue: {spent['cpu']:.1f} s CPU "
                f"({1000 * spent['cpu'] / spent['explained']:.0f} ms a tile), "
                f"{spent['wall']:.1f} s wall; highest memory {spent['peak']:.0f} MB, of which {spent['before']:.0f} MB before it began; "
                f"the whole slide as floats would take {12 * side * side / 2**20:,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
