"""What would have to change: nearest real cases, the generator of a study, its gate, and counterfactuals between classes."""

import pyarrow as pa
from torch import Tensor

from pellucid.counterfactual import GENERATORS, FittedGenerator, gate
from pellucid.errors import BadStudy, PellucidError
from pellucid.interpretation import Evidence, Interpretations
from pellucid.study.choose import training
from pellucid.study.counterfactual_findings import counterfactual_findings, not_measured
from pellucid.study.counterfactual_natural import natural_cases
from pellucid.study.counterfactual_pairs import mask_intervals, masks_of
from pellucid.study.counterfactual_phenotypes import phenotypes_of
from pellucid.study.counterfactual_search import called, class_pairs, in_order, readable, sought
from pellucid.study.counterfactual_tables import score_row, score_rows, strips_of, tables_of
from pellucid.study.questions import CounterfactualConfig
from pellucid.study.setup import Setup

__all__ = ["answer_counterfactuals"]

_FITTED = "counterfactual/generator.safetensors"
_HELD_OUT = 200


def answer_counterfactuals(setup: Setup, evidence: Evidence) -> Interpretations:
    """Look for real cases, fit the generator or take the one that is kept, try it, and search every pair of classes.

    Raises
    ------
    CannotExplain
        When the model is no classifier.
    BadStudy
        When the study names no training images, or a pair names no class of the model. The nearest real cases are in
        the study nevertheless: they need no generator.
    """
    config = setup.config.counterfactual
    if config is None:
        raise BadStudy("this study asks for no counterfactuals; give a table [counterfactual]")
    pairs = class_pairs(config, evidence)
    setup.store.write_table("interpretation/counterfactual_natural.parquet", natural_cases(evidence, pairs))
    known = _training(setup, evidence, config.training)
    fitted = _fitted(setup, config, known, evidence)
    held_out, names = readable(evidence, in_order(evidence, evidence.predictions["image"].to_pylist())[:_HELD_OUT])
    verdict = gate(
        fitted, evidence.model, held_out, training=known, search=config.search, ids=names, seed=evidence.seed,
        batch_size=evidence.batch_size,
    )  # fmt: skip
    answers = called(evidence)
    found = [one for pair in pairs if (one := sought(evidence, config, fitted, verdict, answers, pair)) is not None]
    tables = {"counterfactual_gate": pa.Table.from_pylist(verdict.to_rows())}
    if not found:
        return Interpretations(tuple(counterfactual_findings(verdict, found, pa.table({}))), tables)
    strips, scores, refused = strips_of(found, config.doses), score_rows(setup, evidence, found), []
    tables |= tables_of(setup, found, strips)
    if verdict.passed and any(one.valid for one in found):
        masks = masks_of(setup, evidence, found, tables["counterfactuals"].to_pylist())
        scores += [score_row(name, "", one) for name, one in mask_intervals(masks, evidence).items()]
        tables["counterfactual_masks"] = masks
        try:
            tables |= phenotypes_of(setup, evidence, held_out, found, strips)
        except PellucidError as error:  # pairs and strips are worth showing without numbers
            refused.append(not_measured(str(error)))
    tables["counterfactual_scores"] = pa.Table.from_pylist(scores)
    told = counterfactual_findings(verdict, found, tables["counterfactual_scores"])
    return Interpretations((*told, *refused), tables)


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
    return readable(evidence, in_order(evidence, ids)[:most])[0]


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
