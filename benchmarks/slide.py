"""A generated slide explained tile by tile: time and highest memory as it grows, and the seams that are not there.

python benchmarks/slide.py            2,500 and 5,000 pixels a side
python benchmarks/slide.py 20000      the long form
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

TILE = 512
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
found = explain_slide(Model(Summed().eval()), slide, "input_x_gradient", out, target=1, tile=tile, halo=halo, shard=4 * tile, batch_size=2)
print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - own, "before": before / 1024,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def tiles(side: int) -> Iterator[np.ndarray]:
    """Paint a slide of stained dots on white, tile by tile."""
    random = np.random.default_rng(0)
    yy, xx = np.mgrid[:TILE, :TILE]
    for _ in range((-(-side // TILE)) ** 2):
        tile = np.full((TILE, TILE, 3), 240, np.uint8)
        for y, x, radius in zip(
            *random.integers([[20], [20], [4]], [[TILE - 20], [TILE - 20], [16]], (3, 40)), strict=True
        ):
            tile[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = (120, 60, 150)
        yield tile + random.integers(0, 12, tile.shape, dtype=np.uint8)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", nargs="*", type=int)
    with tempfile.TemporaryDirectory() as folder:
        for side in parser.parse_args().sides or [2500, 5000]:
            slide = Path(folder) / f"slide{side}.tif"
            tifffile.imwrite(
                slide, tiles(side), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="rgb", compression="zlib",
                resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
            )  # fmt: skip
            command = [sys.executable, "-c", RUN, str(slide), str(Path(folder) / f"map{side}.ome.zarr"), str(TILE), "8"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            spent = json.loads(done.stdout)
            count = (-(-side // TILE)) ** 2
            print(
                f"{side:,} × {side:,} pixels, {count:,} tiles: {spent['cpu']:.1f} s CPU ({1000 * spent['cpu'] / count:.0f} ms a tile), "
                f"{spent['wall']:.1f} s wall; highest memory {spent['peak']:.0f} MB, of which {spent['before']:.0f} MB before it began; "
                f"the whole slide as floats would take {12 * side * side / 2**20:,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
