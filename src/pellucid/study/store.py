"""The study directory: what lies where, and writes that are either whole or not there.

A part of the scores is renamed into place after everything else of its task is on disk, so its name alone says that
the task is done.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import dataset
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.attribution import Patterns
from pellucid.errors import BadStudy, PellucidError
from pellucid.study.toml import read_toml, spelt_toml

__all__ = ["COSTS", "FAILURES", "FORMAT", "Rows", "Store", "failure_row", "part_name", "writing"]

FORMAT = 2
"""Version of the directory; raised when an older pellucid could not read it. Before 2 the plan listed its images one by one."""

FAILURES = pa.schema([(name, pa.string()) for name in ("image", "method", "metric", "stage", "sentence")])
"""What went wrong: image, method or metric is "" where all are meant; stage is where: read, explain, self_test, evaluate, ..."""

COSTS = pa.schema(
    [("stage", pa.string()), ("method", pa.string()), ("seconds", pa.float64()),
     ("forwards", pa.int64()), ("backwards", pa.int64()), ("peak_memory", pa.int64())]
)  # fmt: skip
"""What a task took: wall seconds, rows through the model, and the process's highest memory so far in bytes."""

Rows = list[dict[str, Any]]


def failure_row(stage: str, sentence: str, *, image: str = "", method: str = "", metric: str = "") -> dict[str, str]:
    """Return one row of the failures; the sentence in one line."""
    told = " ".join(sentence.split())
    return {"image": image, "method": method, "metric": metric, "stage": stage, "sentence": told}


_MANIFEST, _LOCK = "explained.parquet", ".lock"

_STAGES = ("fit", "predict", "patterns", "choose", "plan", "self_test", "slide", "interpret")


def _foreign(path: Path) -> bool:
    """Say whether a file is none of those that a run leaves behind which was killed before its first word."""
    return path.name != _LOCK and not path.name.endswith(".partial")


def part_name(task: int) -> str:
    """Return the file name of a task's part."""
    return f"part-{task:05d}.parquet"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to it when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Tell in one sentence why a directory cannot be used: a full disk, no right to write, a lost drive."""
    try:
        yield
    except PellucidError:  # some of them are errors of the system too
        raise
    except OSError as error:
        named = "" if error.filename is None else f" ({error.filename})"
        raise BadStudy(
            f"{root} cannot be read or written: {error.strerror or error}{named}; what is finished is kept: mend that and run again"
        ) from error


@dataclass(frozen=True)
class Store:
    """Reads and writes one study directory."""

    root: Path

    @property
    def study_file(self) -> Path:
        """The resolved ``study.toml``."""
        return self.root / "study.toml"

    @property
    def weights(self) -> Path:
        """The trained reference network; there as soon as training has ended."""
        return self.root / "model" / "model.safetensors"

    @property
    def patterns(self) -> Path:
        """What pattern methods learnt from the training images; there as soon as they are fitted."""
        return self.root / "fitted" / "patterns.safetensors"

    def refuse_foreign(self, toml: Path) -> None:
        """Check that the directory is a study, empty, not there yet, or the home of the study file `toml`.

        Raises
        ------
        BadStudy
            When it is a file or holds something else.
        """
        if self.root.exists() and not self.root.is_dir():
            raise BadStudy(f"{self.root} is a file; choose another --out")
        at_home = toml.resolve().is_relative_to(self.root.resolve())
        if (
            self.root.is_dir()
            and any(map(_foreign, self.root.iterdir()))
            and not (self.study_file.is_file() or at_home)
        ):
            raise BadStudy(f"{self.root} is not empty and holds no study; choose another --out")

    def settings(self) -> dict[str, Any]:
        """Return the resolved study file.

        Raises
        ------
        BadStudy
            When the directory holds no study, or one of a newer format.
        """
        if not self.study_file.is_file():
            raise BadStudy(f"{self.root} holds no study: there is no {self.study_file.name} in it")
        values = dict(read_toml(self.study_file).values)
        told = values.get("provenance", {}).get("format")
        if told is None:
            raise BadStudy(
                f"{self.study_file} is a study file, but {self.root} is no study that was run: use pellucid run --out"
            )
        if told > FORMAT:
            raise BadStudy(f"{self.root} has format {told}; this pellucid reads up to {FORMAT}: install a newer one")
        return values

    def write_settings(self, values: Mapping[str, Any]) -> None:
        """Replace the resolved study file."""
        with _whole(self.study_file) as partial:
            partial.write_text(spelt_toml(values), encoding="utf-8")

    def write_manifest(self, ids: Sequence[str]) -> str:
        """Write the chosen images in the order of the tasks, and return the hash of the file."""
        self.write_table(_MANIFEST, pa.table({"image": pa.array(ids, pa.string())}))
        return hashlib.sha256((self.root / _MANIFEST).read_bytes()).hexdigest()

    def manifest(self, plan: Mapping[str, Any]) -> list[str]:
        """Return the chosen images in the order of the tasks.

        Raises
        ------
        BadStudy
            When the file that names them is not the one that the plan was made with.
        """
        if "shards" in plan:  # before format 2
            return [image for shard in plan["shards"] for image in shard]
        path = self.root / _MANIFEST
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != plan["manifest"]:
            raise BadStudy(
                f"{path} is missing or was changed since the study began; restore it or begin anew with another --out"
            )
        ids: list[str] = pq.read_table(path)["image"].to_pylist()
        return ids

    def write_patterns(self, patterns: Patterns) -> None:
        """Write fitted patterns whole."""
        with _whole(self.patterns) as partial:
            patterns.save(partial)

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Replace a safetensors file."""
        with _whole(self.root / name) as partial:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial)

    def read_tensors(self, name: str) -> dict[str, Tensor] | None:
        """Return the content of a safetensors file, or None where there is none yet."""
        path = self.root / name
        return load_file(path) if path.is_file() else None

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file."""
        with _whole(self.root / name) as partial:
            partial.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file, or None where there is none yet."""
        path = self.root / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write_table(self, name: str, table: pa.Table) -> None:
        """Replace a parquet file."""
        with _whole(self.root / name) as partial:
            pq.write_table(table, partial)

    def read_table(self, name: str) -> pa.Table | None:
        """Return a parquet file, or None where there is none yet."""
        path = self.root / name
        return pq.read_table(path) if path.is_file() else None

    def table(self, name: str) -> pa.Table:
        """Return a parquet file.

        Raises
        ------
        BadStudy
            When it is not there yet.
        """
        found = self.read_table(name)
        if found is None:
            raise BadStudy(f"{self.root} has no {name} yet; run it to the end first")
        return found

    def json(self, name: str) -> Any:
        """Return the content of a JSON file.

        Raises
        ------
        BadStudy
            When it is not there yet.
        """
        found = self.read_json(name)
        if found is None:
            raise BadStudy(f"{self.root} has no {name} yet; run it to the end first")
        return found

    def tables(self, folder: str) -> dict[str, pa.Table]:
        """Return every parquet file of a folder by its name, in the order of the names."""
        return {path.stem: pq.read_table(path) for path in sorted((self.root / folder).glob("*.parquet"))}

    def column(self, folder: str, name: str) -> pa.ChunkedArray:
        """Return one column of all parquet files of a folder."""
        files = [str(path) for path in sorted((self.root / folder).glob("*.parquet"))]
        return (
            dataset(files, format="parquet").to_table(columns=[name])[name]
            if files
            else pa.chunked_array([], pa.int64())
        )

    def forget(self, *names: str) -> None:
        """Remove files that follow from what is about to change."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what killed runs left half written."""
        for path in self.root.rglob("*.partial"):
            if path.is_file():
                path.unlink(missing_ok=True)

    def done(self, tasks: int, folder: str = "scores") -> set[int]:
        """Return the numbers of the tasks whose part is in a folder."""
        there = {path.name for path in (self.root / folder).glob("part-*.parquet")}
        return {task for task in range(tasks) if part_name(task) in there}

    def write_part(self, task: int, *, scores: pa.Table, costs: Rows, failures: Rows, folder: str = "scores") -> None:
        """Write what a task gave; its scores come last, and their name says that the task is done."""
        name = part_name(task)
        beside = name if folder == "scores" else f"{folder}-{name}"
        if failures:
            self.write_table(f"failures/{beside}", pa.Table.from_pylist(failures, schema=FAILURES))
        else:
            self.forget(f"failures/{beside}")  # of an earlier try
        self.write_table(f"costs/{beside}", pa.Table.from_pylist(costs, schema=COSTS))
        self.write_table(f"{folder}/{name}", scores)

    def write_failures(self, stage: str, failures: Rows) -> None:
        """Replace what failed in one stage before or after the tasks."""
        self.write_table(f"failures/{stage}.parquet", pa.Table.from_pylist(failures, schema=FAILURES))

    def gather_failures(self, tasks: int) -> pa.Table:
        """Join the failures of all stages and finished tasks into ``failures.parquet``, each once."""
        stages = [f"failures/{stage}.parquet" for stage in _STAGES]
        done = [part_name(task) for task in sorted(self.done(tasks))]
        parts = [f"failures/{prefix}{name}" for prefix in ("", "choices-") for name in done]
        beside = [f"failures/{path.name}" for path in sorted((self.root / "failures").glob("stability-*.parquet"))]
        there = {path.name for path in (self.root / "failures").glob("*.parquet")}
        names = [name for name in (*stages, *parts, *beside) if name.removeprefix("failures/") in there]
        found = [table for table in map(self.read_table, names) if table is not None]
        rows = {tuple(row.values()): row for table in found for row in table.to_pylist()}
        joined = pa.Table.from_pylist(list(rows.values()), schema=FAILURES)
        self.write_table("failures.parquet", joined)
        return joined

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out of the directory; the lock ends with the process, however it ends.

        Raises
        ------
        BadStudy
            When another process runs this study.
        """
        try:
            import fcntl  # noqa: PLC0415  # there is none on Windows, where nothing keeps a second run out
        except ImportError:
            yield
            return
        with (self.root / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadStudy(
                    f"{self.root} is being run by another process; wait for it or choose another --out"
                ) from None
            yield
