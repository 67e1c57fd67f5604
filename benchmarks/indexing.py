"""Many small files: how long a set of them takes to open, how much memory it holds, and that none but the first is opened.

    python benchmarks/indexing.py [--files 100000]

A picture of 8 × 8 pixels is written to each of a hundred class folders and linked there under as many names as are asked for;
indexing is timed in a fresh process without and with a manifest. Then a thousand of them are read.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from pellucid.images import read_images

FOLDERS = 100


def write(folder: Path, files: int) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "one.png")
    data = (folder / "one.png").read_bytes()
    (folder / "one.png").unlink()
    rows = ["image,label"]
    for number in range(files):
        name = f"class_{number % FOLDERS:02d}/{number:07d}.png"
        if number < FOLDERS:
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(data)
        else:
            os.link(folder / f"class_{number % FOLDERS:02d}/{number % FOLDERS:07d}.png", folder / name)
        rows.append(f"{name},{number % FOLDERS}")
    (folder.parent / "labels.csv").write_text("\n".join(rows))


def measure(folder: Path, labels: str | None) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    images = read_images(folder, labels=labels)
    indexed = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    images.tensor(images.ids[:: max(1, len(images) // 1000)][:1000])
    read = time.perf_counter() - began
    sys.stdout.write(
        json.dumps({"images": len(images), "seconds": indexed, "mib": (after - before) / 1024, "read": read})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--labels", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        measure(asked.measure, asked.labels)
        return
    table = Table("listed from", "images", "indexed, s", "memory, MiB", "1,000 read, s")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        write(folder, asked.files)
        for name, more in (("class folders", []), ("manifest", ["--labels", str(folder.parent / "labels.csv")])):
            command = [sys.executable, __file__, "--measure", str(folder), *more]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            table.add_row(
                name, f"{found['images']:,}", f"{found['seconds']:.2f}", f"{found['mib']:.0f}", f"{found['read']:.2f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
