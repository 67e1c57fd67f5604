"""Peak memory, each case in a fresh process: whatever the steps, whatever the samples, and a large net at default settings.

    python benchmarks/memory.py [--write]

A peak is the largest resident size of the whole process; what a case adds to that of the same process after one gradient
of a tiny image, when Python, torch and the network are in memory already, is printed beside it.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from harness import table, where, write
from nets import densenet121, resnet18
from rich.console import Console

from pellucid import explain


@dataclass(frozen=True)
class Case:
    """One explanation of one image: `than` names the case whose peak its own may exceed by a tenth."""

    net: Callable[[], torch.nn.Module]
    size: int
    method: str
    batch: int | None = None
    than: str | None = None
    limit: float | None = None

    def goal(self, peak: float, others: dict[str, float]) -> str:
        """Say what was to be kept to, and whether it was."""
        limit = others[self.than] * 1.1 if self.than else self.limit
        if limit is None:
            return ""
        said = f"≤ 1.1 × {self.than}" if self.than else f"≤ {limit / 1024:g} GiB"
        return f"{said} {'met' if peak <= limit else 'MISSED'}"


CASES = {
    "IG, 10 steps, ResNet-18, 224 px": Case(resnet18, 224, "integrated_gradients(steps=10)", 5),
    "IG, 1,000 steps, ResNet-18, 224 px": Case(
        resnet18, 224, "integrated_gradients(steps=1000)", 5, than="IG, 10 steps, ResNet-18, 224 px"
    ),
    "KernelSHAP, 200 samples, ResNet-18, 112 px": Case(
        resnet18, 112, 'kernel_shap(segments="grid(6, 6)", samples=200)'
    ),
    "KernelSHAP, 2,000 samples, ResNet-18, 112 px": Case(
        resnet18,
        112,
        'kernel_shap(segments="grid(6, 6)", samples=2000)',
        than="KernelSHAP, 200 samples, ResNet-18, 112 px",
    ),
    "RISE, 200 masks, ResNet-18, 112 px": Case(resnet18, 112, "rise(samples=200)"),
    "RISE, 2,000 masks, ResNet-18, 112 px": Case(
        resnet18, 112, "rise(samples=2000)", than="RISE, 200 masks, ResNet-18, 112 px"
    ),
    "SmoothGrad, 20 samples, ResNet-18, 112 px": Case(resnet18, 112, "smoothgrad(samples=20)", 5),
    "SmoothGrad, 500 samples, ResNet-18, 112 px": Case(
        resnet18, 112, "smoothgrad(samples=500)", 5, than="SmoothGrad, 20 samples, ResNet-18, 112 px"
    ),
    "IG, 200 steps, DenseNet-121, 512 px, default settings": Case(
        densenet121, 512, "integrated_gradients(steps=200)", limit=8 * 1024
    ),
}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(name: str) -> tuple[float, float]:
    """Run a case in this process; return the MiB it held before and what the case added at its peak."""
    case = CASES[name]
    torch.set_num_threads(1)
    net = case.net()
    explain(net, torch.rand(1, 3, 32, 32), "gradient", 0)
    before = _peak()
    explain(net, torch.rand(1, 3, case.size, case.size), case.method, 0, batch_size=case.batch)
    return before, _peak() - before


def _apart(name: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, __file__, "--case", name], capture_output=True, text=True, check=True)
    before, added = map(float, done.stdout.split())
    return before + added, added


def main() -> None:
    """Run every case, or one in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=CASES, help="run one case here and print the MiB before and added")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks.md")
    given = parser.parse_args()
    if given.case:
        print(*measured(given.case))
        return
    peaks: dict[str, float] = {}
    rows = []
    for name, case in CASES.items():
        peaks[name], added = _apart(name)
        rows.append(f"| {name} | {peaks[name]:.0f} | {added:.0f} | {case.goal(peaks[name], peaks)} |")
        Console(width=160).print(rows[-1])
    if given.write:
        text = table(("one image", "peak, MiB", "of which added", "goal"), rows)
        write("memory", f"`python benchmarks/memory.py --write`: {where()}.\n\n{text}")


if __name__ == "__main__":
    main()
