"""What went wrong and what it took: the columns of both, and one row in one sentence."""

from typing import Any

import pyarrow as pa

__all__ = ["COSTS", "FAILURES", "Rows", "failure_row", "reason_of"]

FAILURES = pa.schema([(name, pa.string()) for name in ("image", "method", "metric", "stage", "sentence")])
"""What went wrong: image, method or metric is "" where all are meant; stage is where: read, explain, self_test, evaluate, ..."""

COSTS = pa.schema(
    [("stage", pa.string()), ("method", pa.string()), ("seconds", pa.float64()),
     ("forwards", pa.int64()), ("backwards", pa.int64()), ("peak_memory", pa.int64())]
)  # fmt: skip
"""What a task took: wall seconds, rows through the model, and the process's highest memory so far in bytes."""

Rows = list[dict[str, Any]]


def reason_of(error: Exception) -> str:
    """Return what an error says, its kind where it says nothing."""
    return str(error) or type(error).__name__


def failure_row(stage: str, sentence: str, *, image: str = "", method: str = "", metric: str = "") -> dict[str, str]:
    """Return one row of the failures; the sentence in one line."""
    told = " ".join(sentence.split())
    return {"image": image, "method": method, "metric": metric, "stage": stage, "sentence": told}
