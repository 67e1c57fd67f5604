"""Readable models next to the black one, and the borderline between the two classes that it confuses most."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch

from pellucid.concepts import layer_features
from pellucid.interpretation import GlassBoxes, Held, class_score, glass_boxes, support_margins, surrogates
from pellucid.models.predict import predict
from pellucid.study.measured import AT_ONCE, Measured

__all__ = ["Readable"]

_LEAST = 5
"""Images of each of the two classes, to learn from and to judge on."""


@dataclass(frozen=True)
class Readable:
    """What can be read instead of the model, and what lies between two of its classes."""

    measured: Measured

    @cached_property
    def called(self) -> dict[str, int]:
        """What the model calls every image that is learnt from or judged on."""
        whole = self.measured
        ids = [*whole.learnt_from, *whole.ids]
        told = predict(whole.setup.model, whole.evidence.images, ids, batch_size=whole.evidence.batch_size).table
        return dict(zip(told["image"].to_pylist(), told["predicted"].to_pylist(), strict=True))

    @cached_property
    def boxes(self) -> tuple[GlassBoxes | None, pa.Table]:
        """Readable models next to the black one; None where nothing but the judged images is known."""
        whole, evidence = self.measured, self.measured.evidence
        ids, images = whole.learnt_from, evidence.images
        if not ids:
            whole.notes.append("readable models were not trained: no training image is known; give [images] split")
            return None, pa.table({})
        held = Held(
            train=whole.measure("learnt_from", ids), test=whole.held_out, train_labels=images.label(ids), test_labels=whole.labels,
            test_groups=whole.groups,
        )  # fmt: skip
        label = whole.subjects[-1]
        wanted = [
            class_score(evidence, label)(images.tensor(ids[start : start + AT_ONCE]))
            for start in range(0, len(ids), AT_ONCE)
        ]
        own = [self.called[image] for image in whole.ids]
        copies = surrogates(
            held, [self.called[image] for image in ids], own, torch.cat(wanted).numpy(), whole.scores[label], seed=evidence.seed
        )  # fmt: skip
        return glass_boxes(held, own, seed=evidence.seed), copies

    @cached_property
    def margins(self) -> pa.Table:
        """How far each held-out image of the two classes that are confused most lies from the border between them."""
        whole, evidence = self.measured, self.measured.evidence
        pair, layer = self._pair(), evidence.model.embedding
        if pair is None or layer is None:
            return pa.table({})
        images = evidence.images
        parts = [[name for name in ids if images.label([name])[0] in pair] for ids in (whole.learnt_from, whole.ids)]
        labels = [list(images.label(ids)) for ids in parts]
        if any(part.count(label) < _LEAST for part in labels for label in pair):
            return pa.table({})
        features = [
            layer_features(evidence.model, images, [layer], ids=ids, batch_size=evidence.batch_size)[layer]
            .double()
            .numpy()
            for ids in parts
        ]
        groups = evidence.groups(parts[1])
        table, right = support_margins(features[0], labels[0], features[1], labels[1], groups=groups)
        names = {
            column: [whole.classes[label] for label in table[column].to_pylist()] for column in ("label", "called")
        }
        own = np.mean([self.called[image] == label for image, label in zip(parts[1], labels[1], strict=True)])
        count = len(parts[1])
        return pa.table({
            "image": parts[1], "group": groups, **names, "distance": table["distance"], "right": [right.value] * count,
            "right_low": pa.array([right.low] * count, from_pandas=True), "right_high": pa.array([right.high] * count, from_pandas=True),
            "model_right": [float(own)] * count, "learnt_from": [len(parts[0])] * count,
        })  # fmt: skip

    def _pair(self) -> tuple[int, int] | None:
        """Return the two classes that the model takes for each other most often, the first two where it never errs."""
        whole = self.measured
        if len(whole.subjects) < 2 or not whole.learnt_from:
            return None
        wrong: Counter[tuple[int, int]] = Counter(
            (min(label, self.called[image]), max(label, self.called[image]))
            for image, label in zip(whole.ids, whole.labels, strict=True)
            if self.called[image] != label and {label, self.called[image]} <= set(whole.subjects)
        )
        return max(sorted(wrong), key=lambda pair: wrong[pair]) if wrong else (whole.subjects[0], whole.subjects[1])
