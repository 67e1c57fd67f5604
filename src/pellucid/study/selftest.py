"""The metrics are tested on the study's own model before they judge; one that fails has no say in the ranking."""

from collections.abc import Sequence

import pyarrow as pa

from pellucid.evaluation import METRICS, Scores, self_test
from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.selftest import SELF_TEST
from pellucid.study.failures import Rows, failure_row, reason_of
from pellucid.study.setup import Setup
from pellucid.study.store import Store
from pellucid.study.task import FORESEEN, Shard, fixed_arithmetic

__all__ = ["ensure_self_test", "without_say"]

IMAGES = 8
"""Images that the metrics are tested on: twice as many change no verdict of the demonstration."""

_TABLE = "selftest.parquet"


def ensure_self_test(setup: Setup) -> None:
    """Test the metrics that count in an overall ranking, once; a metric that cannot be tested keeps its say, with a row."""
    if not setup.config.evaluate.self_test or (setup.store.root / _TABLE).is_file():
        return
    metrics = [text for text in setup.plan.metrics if FAMILIES[METRICS.parse(text).profile.family]]
    failures: Rows = []
    with fixed_arithmetic(setup.plan.threads):
        shard = Shard.read(setup, setup.plan.ids[:IMAGES])
        tables = _tested(shard, metrics, failures) if shard.ids and metrics else []
    setup.store.write_failures("self_test", failures)
    setup.store.forget("ranking.parquet", "findings.json", "report.html")
    setup.store.write_table(_TABLE, pa.concat_tables([SELF_TEST.empty_table(), *tables]))


def _tested(shard: Shard, metrics: Sequence[str], failures: Rows) -> list[pa.Table]:
    """Test metrics together, which shares their forwards, and one by one where they refuse."""
    setup = shard.setup
    try:
        found = self_test(setup.model, shard.x, metrics, masks=setup.masks(shard.ids), seed=setup.config.seed)
    except FORESEEN as error:
        if len(metrics) > 1:
            return [table for metric in metrics for table in _tested(shard, [metric], failures)]
        failures.append(failure_row("self_test", reason_of(error), metric=metrics[0]))
        return []
    return [found.table]


def without_say(store: Store, scores: Scores) -> dict[str, str]:
    """Return the scored metrics that failed their self-test, and why; one that gave no score to judge by keeps its say."""
    found = store.read_table(_TABLE)
    scored = set(scores.table["metric"].to_pylist())
    rows = [] if found is None else found.to_pylist()
    return {row["metric"]: row["reason"] for row in rows if row["passed"] is False and row["metric"] in scored}
