"""Ranks on simulated score tables with known truth: who comes first and last, and how often intervals cover.

python benchmarks/ranking.py [tables]
"""

import sys

import numpy as np
import torch
from torch import nn

from pellucid import Explanation, evaluate, explain, rank
from pellucid.evaluation import Scores
from pellucid.evaluation.scores import SCHEMA
from pellucid.intervals import share_interval

METRICS = tuple(
    f"{name}, fill='zero')"
    for name in ("sensitivity_n(samples=24", "deletion(steps=8", "insertion(steps=8", "pixel_flipping(steps=8")
)
OFFSETS = np.array([1.0, 0.6, 0.3, 0.0, -0.2])


def table(values: np.ndarray, metric: str) -> Scores:
    """Return scores from (images, methods)."""
    rows = [
        {"image": f"{row:03}", "method": f"method {column}", "metric": metric, "value": float(value), "chance": None,
         "reason": "", "family": "faithfulness", "direction": "higher", "resolution": 0.0, "definition": "0",
         "target": "", "step": "", "control": False, "group": f"{row:03}", "seed": 0}
        for (row, column), value in np.ndenumerate(values)
    ]  # fmt: skip
    return Scores(SCHEMA.empty_table().from_pylist(rows, schema=SCHEMA))


def draw(generator: np.random.Generator, images: int) -> np.ndarray:
    """Return scores of two metrics, correlated by image: (metrics, images, methods)."""
    shared = generator.normal(size=(images, len(OFFSETS)))
    return OFFSETS + 0.5 * shared + generator.normal(size=(2, images, len(OFFSETS)))


def expected() -> np.ndarray:
    """Return each method's expected overall rank, from many images."""
    many = draw(np.random.default_rng(0), 200_000)
    return (1 + (many[..., :, None] < many[..., None, :]).sum(-1)).mean((0, 1))


def coverage(tables: int, images: int) -> tuple[int, int]:
    """Count how many nominal 95 % intervals of overall ranks hold the expected rank."""
    truth, hits = expected(), 0
    for trial in range(tables):
        values = draw(np.random.default_rng([images, trial]), images)
        ranking = rank(
            Scores.concat([table(part, f"m{place}") for place, part in enumerate(values)]), draws=1000, seed=trial
        )
        for row in ranking.table.to_pylist():
            if row["metric"] == "overall":
                hits += row["low"] <= truth[int(row["method"].split()[1])] <= row["high"]
    return hits, tables * len(OFFSETS)


def led(tables: int, images: int, methods: int = 10) -> tuple[int, int]:
    """Count how often one of equally good methods is among those level with the best."""
    hits = 0
    for trial in range(tables):
        values = np.random.default_rng([images, trial, 7]).normal(size=(images, methods))
        rows = rank(table(values, "m"), draws=500, seed=trial).table.to_pylist()
        hits += next(
            row["tied_with_best"] for row in rows if row["metric"] == "overall" and row["method"] == "method 0"
        )
    return hits, tables


def game(seed: int) -> tuple[bool, bool]:
    """Rank exact, noisy and control maps of a random linear net: is exact first, are controls behind it?"""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 6 * 6, 2))
    x = torch.rand(8, 2, 6, 6)
    exact = net[1].weight[0].detach().view(1, 2, 6, 6) * x
    noise = exact.std() * torch.randn_like(exact)
    ids = [f"{seed}-{row}" for row in range(8)]
    given = {"exact": exact, "noisy": exact + 0.5 * noise, "noisier": exact + noise}
    maps = [Explanation.from_values(values, net, x, target=0, name=name, ids=ids) for name, values in given.items()]
    maps += [explain(net, x, name, 0, ids=ids, seed=seed) for name in ("random_map", "edge_map")]
    order = rank(evaluate(net, x, maps, METRICS, seed=seed), draws=200, seed=seed).order()
    return order[0] == "exact", set(order[-2:]) == {"random_map", "edge_map"}


def main(tables: int) -> None:
    """Print every share with its interval."""
    for images in (10, 30, 100):
        hits, trials = coverage(tables // 3, images)
        print(
            f"intervals of ranks, {images} images, {tables // 3} tables: cover {hits}/{trials} = {share_interval(hits, trials)}"
        )
    for images in (15, 60):
        hits, trials = led(tables, images)
        print(
            f"equally good methods, {images} images: one is level with the best {hits}/{trials} = {share_interval(hits, trials)}"
        )
    games = [game(seed) for seed in range(tables)]
    for place, what in enumerate(("exact first", "controls last")):
        right = sum(game[place] for game in games)
        print(f"closed-form games: {what} {right}/{tables} = {share_interval(right, tables)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 510)
