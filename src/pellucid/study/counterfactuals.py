"""What would have to change: the generator of a study, its gate, and counterfactuals between the model's classes."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.counterfactual import (
    GENERATORS,
    Counterfactuals,
    Exaggeration,
    FittedGenerator,
    GateVerdict,
    counterfactual,
    gate,
    score_counterfactuals,
    summarise,
)
from pellucid.errors import BadImage, BadStudy, CannotExplain
from pellucid.hashing import hash_key
from pellucid.interpretation import Evidence, Finding, Interpretations
from pellucid.intervals import Interval, or_null, share_interval
from pellucid.models import Model, load_model
from pellucid.study.choose import training
from pellucid.study.questions import CounterfactualConfig
from pellucid.study.repeats import SHUFFLED, net_names, net_weights
from pellucid.study.setup import Setup

__all__ = ["IMAGES", "answer_counterfactuals"]

IMAGES = "counterfactual/images.safetensors"
"""``images`` and ``changed`` ``(N, C, *S)`` by row of the table, ``strips`` ``(M, K, C, *S)`` of the rows with a strip."""

_FITTED = "counterfactual/generator.safetensors"
_HELD_OUT = 200
_STRIPS = 2
"""Strips kept of each pair of classes."""


def answer_counterfactuals(setup: Setup, evidence: Evidence) -> Interpretations:
    """Fit the generator or take the one that is kept, try it, and search for counterfactuals of every pair of classes.

    Raises
    ------
    CannotExplain
        When the model is no classifier.
    BadStudy
        When the study names no training images, or a pair names no class of the model.
    """
    config = setup.config.counterfactual
    if config is None:
        raise BadStudy("this study asks for no counterfactuals; give a table [counterfactual]")
    pairs, model = _pairs(config, evidence), evidence.model
    known = _training(setup, evidence, config.training)
    fitted = _fitted(setup, config, known, evidence)
    held_out, names = _readable(evidence, _by_hash(evidence, evidence.predictions["image"].to_pylist())[:_HELD_OUT])
    verdict = gate(
        fitted, model, held_out, training=known, search=config.search, ids=names, seed=evidence.seed, batch_size=evidence.batch_size,
    )  # fmt: skip
    found = [one for pair in pairs if (one := _sought(evidence, config, fitted, verdict, pair)) is not None]
    tables = {"counterfactual_gate": pa.Table.from_pylist(verdict.to_rows())}
    if found:
        tables |= _tables(setup, evidence, config, found)
    return Interpretations(tuple(_findings(verdict, [one for _, _, one in found], tables)), tables)


_Found = tuple[str, str, Counterfactuals]


def _pairs(config: CounterfactualConfig, evidence: Evidence) -> list[tuple[str, str]]:
    classes, model = evidence.images.classes, evidence.model
    if model.task not in {None, "classification"} or len(classes) < 2:
        raise CannotExplain(
            "[counterfactual] moves images between classes, and this model is no classifier of two or more"
        )
    if config.pairs == "all":
        return [(source, target) for source in classes for target in classes if source != target]
    for name in {name for pair in config.pairs for name in pair}:
        if name not in classes:
            raise BadStudy(f"counterfactual.pairs names no class {name!r}; the model has {', '.join(classes)}")
    return [(source, target) for source, target in config.pairs]


def _by_hash(evidence: Evidence, ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=lambda name: hash_key(evidence.seed, "counterfactual", name))


def _readable(evidence: Evidence, ids: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the images that can be read; those that cannot are told where they were first met."""
    tensors, names = [], []
    for name in ids:
        try:
            tensors.append(evidence.images.load(name))
        except BadImage:
            continue
        names.append(name)
    if not tensors:
        raise BadStudy(f"[counterfactual]: none of {len(ids)} images can be read")
    return torch.stack(tensors), names


def _training(setup: Setup, evidence: Evidence, most: int) -> Tensor:
    """Return the images that the generator learns from: the model's own, else those that are not explained."""
    images = setup.images
    ids = training(images, trained_here=setup.config.fit is not None, seed=evidence.seed)
    if not ids:
        explained = set(evidence.ids)
        ids = tuple(name for name in images.ids if name not in explained)
    if not ids:
        raise BadStudy(
            "[counterfactual] learns from images that are not explained, and this study explains all of its images"
        )
    return _readable(evidence, _by_hash(evidence, ids)[:most])[0]


def _fitted(setup: Setup, config: CounterfactualConfig, known: Tensor, evidence: Evidence) -> FittedGenerator:
    generator, store = GENERATORS.parse(config.generator), setup.store
    kept = store.read_tensors(_FITTED)
    if kept is not None:
        there = {name: tensor.to(evidence.model.device) for name, tensor in kept.items()}
        return generator.restore(there, tuple(known.shape[1:]))
    checkpoint = store.root / "counterfactual" / "checkpoint.pt"
    fitted = generator.fit(known, evidence.model, seed=evidence.seed, checkpoint=checkpoint, progress=evidence.progress)
    store.write_tensors(_FITTED, fitted.tensors())
    store.write_table("counterfactual/history.parquet", fitted.history)
    store.forget("counterfactual/checkpoint.pt")
    return fitted


def _sought(
    evidence: Evidence,
    config: CounterfactualConfig,
    fitted: FittedGenerator,
    verdict: GateVerdict,
    pair: tuple[str, str],
) -> _Found | None:
    """Search for the counterfactuals of one pair, in the explained images that the model puts in its first class."""
    source, target = pair
    called = dict(
        zip(evidence.predictions["image"].to_pylist(), evidence.predictions["predicted"].to_pylist(), strict=True)
    )
    number = evidence.images.classes.index(source)
    ids = [name for name in _by_hash(evidence, evidence.ids) if called.get(name) == number][: config.images]
    if not ids:
        return None
    x, names = _readable(evidence, ids)
    found = counterfactual(
        evidence.model, x, generator=fitted, gate=verdict, target=evidence.images.classes.index(target), search=config.search,
        ids=names, seed=evidence.seed, batch_size=evidence.batch_size,
    )  # fmt: skip
    return source, target, found


def _tables(
    setup: Setup, evidence: Evidence, config: CounterfactualConfig, found: Sequence[_Found]
) -> dict[str, pa.Table]:
    """Keep the images and return what is said of them."""
    rows: list[dict[str, Any]] = []
    doses: list[dict[str, Any]] = []
    strips: list[Tensor] = []
    for source, target, one in found:
        strip = one.exaggerate(config.doses)
        for row, name in enumerate(one.ids):
            kept = row < _STRIPS
            rows.append(_row(one, row, source, target) | {"strip": len(strips) if kept else None})
            doses += _doses(strip, row, name, target)
            strips += [strip.images[row].half()] if kept else []
    pictures = {"images": torch.cat([one.images for _, _, one in found]), "changed": torch.cat([one.changed for _, _, one in found]),
                "strips": torch.stack(strips)}  # fmt: skip
    setup.store.write_tensors(IMAGES, pictures)
    scores = _scores(setup, evidence, [one for _, _, one in found])
    return {"counterfactuals": pa.Table.from_pylist(rows), "counterfactual_doses": pa.Table.from_pylist(doses),
            "counterfactual_scores": pa.Table.from_pylist(scores)}  # fmt: skip


def _row(one: Counterfactuals, row: int, source: str, target: str) -> dict[str, Any]:
    return {
        "image": one.ids[row], "source": source, "target": target, "status": one.status[row], "start": float(one.scores[row, 0]),
        "score": float(one.scores[row, -1]), "goal": float(one.aim.goal[row]), "strain": float(one.strain[row, -1]),
        "length": float(one.move.length[row]), "reason": one.reasons[row],
    }  # fmt: skip


def _doses(strip: Exaggeration, row: int, image: str, target: str) -> list[dict[str, Any]]:
    return [
        {"image": image, "target": target, "dose": dose, "score": float(strip.scores[row, place]),
         "strain": float(strip.strain[row, place]), "spearman": or_null(float(strip.spearman[row]))}
        for place, dose in enumerate(strip.doses)
    ]  # fmt: skip


def _scores(setup: Setup, evidence: Evidence, found: Sequence[Counterfactuals]) -> list[dict[str, Any]]:
    """Return every score with its interval over groups; nets that learnt the task again judge validity too."""
    others = _nets(setup)
    table = pa.concat_tables(
        [score_counterfactuals(one, others=others, batch_size=evidence.batch_size) for one in found]
    )
    ids = list(dict.fromkeys(table["image"].to_pylist()))
    groups = dict(zip(ids, evidence.groups(ids), strict=True)) if evidence.group is not None else None
    summary = summarise(table, groups=groups, seed=evidence.seed)
    return [_told(score, model, interval) for (score, model), interval in summary.items()]


def _told(score: str, model: str, interval: Interval) -> dict[str, Any]:
    return {"score": score, "model": model, "value": interval.value, "low": or_null(interval.low), "high": or_null(interval.high),
            "n": interval.n, "groups": interval.groups}  # fmt: skip


def _nets(setup: Setup) -> dict[str, Model]:
    paths = {name: net_weights(setup, name) for name in net_names(setup) if name != SHUFFLED}
    return {name: load_model(path, device=setup.plan.device) for name, path in paths.items() if path.is_file()}


def _findings(verdict: GateVerdict, found: Sequence[Counterfactuals], tables: dict[str, pa.Table]) -> list[Finding]:
    told = [_gate_finding(verdict)]
    if not found:
        return told
    good = sum(int(one.valid.sum()) for one in found)
    tried = sum(status != "already there" for one in found for status in one.status)
    share = share_interval(good, tried)
    statement = (
        f"For {good} of {tried} images a small change was found that makes the model answer otherwise and that resembles the "
        "training images; for the others none was found, and none is claimed"
    )
    told.append(Finding(
        id="counterfactual-validity", kind="gate", subject="counterfactuals", statement=statement + ".",
        evidence="The model was asked about the very image that is shown. " + _transfer(tables["counterfactual_scores"]),
        value=share.value, low=share.low, high=share.high, verdict="supported" if verdict.passed else "undecided",
    ))  # fmt: skip
    return told


def _transfer(scores: pa.Table) -> str:
    rows = [row for row in scores.to_pylist() if row["score"] == "validity" and row["model"]]
    if not rows:
        return "No other net judged them."
    return (
        "Other nets agree: "
        + "; ".join(f"{row['model']} on {100 * row['value']:.0f} % of {row['n']}" for row in rows)
        + "."
    )


def _gate_finding(verdict: GateVerdict) -> Finding:
    agreement = verdict["class_agreement"]
    told = "; ".join(map(str, verdict.checks)) + "."
    if verdict.passed:
        statement = "Images made by the generator may be read: the model answers its copies as it answers the images, and the changes look like real ones."
    else:
        names = ", ".join(check.name.replace("_", " ") for check in verdict.failed)
        statement = (
            f"Images made by the generator must not be read as explanations, and none is shown: it failed {names}."
        )
    return Finding(
        id="counterfactual-gate", kind="gate", subject=verdict.generator, statement=statement, evidence=told,
        value=agreement.value, low=agreement.low, high=agreement.high, verdict="supported" if verdict.passed else "refuted",
    )  # fmt: skip
