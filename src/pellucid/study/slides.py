"""The slides of a study: every shard of every map is a task, and runs wherever the study's tasks run."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.hashing import hash_key
from pellucid.images.collect import collected
from pellucid.images.multiscale import build_levels
from pellucid.images.reader import Wanted
from pellucid.images.slide import Slide, open_slide
from pellucid.interpretation import Evidence, Interpretations
from pellucid.study.executors import Inline, completed, open_executor
from pellucid.study.failures import Rows, failure_row, reason_of
from pellucid.study.parts import shard_bar
from pellucid.study.setup import Setup
from pellucid.study.slide_config import SlideConfig
from pellucid.study.slide_grid import Corner
from pellucid.study.slide_map import SlideChoices, SlideMap, begin_map, missing
from pellucid.study.slide_shard import explain_shard
from pellucid.study.slide_summary import pictures, slide_row, tile_table
from pellucid.study.task import ALONE, FORESEEN, fixed_arithmetic, opened

__all__ = ["SlideJob", "answer", "asked_slides", "ensure_slides", "opened_slide", "run_slide_job", "slide_choices"]

FOLDER = "slide"


@dataclass(frozen=True)
class AskedSlide:
    """A slide of the study: its id, its file, and the name under which the study keeps what belongs to it."""

    name: str
    file: Path

    @property
    def kept(self) -> str:
        """A name that any file system takes, and that no two slides share."""
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(self.name).name)[:60]}-{hash_key(self.name).hex()[:8]}"

    @property
    def table(self) -> str:
        """The file of its tiles in the study, written last: it says that the slide is done."""
        return f"{FOLDER}/{self.kept}.parquet"

    def done(self, root: Path) -> bool:
        """Say whether everything of it is there."""
        return (root / self.table).is_file()

    def map(self, root: Path) -> Path:
        """Where its map lies."""
        return root / FOLDER / f"{self.kept}.map.ome.zarr"


@dataclass(frozen=True)
class SlideJob:
    """One shard of one slide by its corner; pixels and weights are read where it runs."""

    root: Path
    slide: AskedSlide
    corner: Corner
    stamp: str
    trust: bool = False
    here: Setup | None = None


def asked_slides(asked: SlideConfig) -> list[AskedSlide]:
    """Return the slides that ``[slide]`` names, in the order of their ids.

    Raises
    ------
    BadImage
        When there is no such file or folder, or it holds none.
    """
    found = collected(asked.path, None, None, [], Wanted(series=asked.series))
    if found.source is not None:
        raise BadStudy(f"slide.path = {str(asked.path)!r} is a set of images; give a slide or a folder of slides")
    return [AskedSlide(name, Path(file)) for name, file in found.files.items()]


def opened_slide(asked: SlideConfig, slide: AskedSlide) -> Slide:
    """Open a slide at the pixel size of the study."""
    return open_slide(slide.file, um_per_px=asked.um_per_px, series=asked.series)


def slide_choices(setup: Setup, asked: SlideConfig, slide: Slide) -> SlideChoices:
    """Return every choice that decides the numbers of a slide's map."""
    return SlideChoices.of(
        METHODS.parse(asked.method or setup.config.explain.methods[0]), setup.model, slide, target=asked.target, tile=asked.tile,
        halo=asked.halo, shard=asked.shard, seed=setup.config.seed, batch_size=asked.batch_size, tissue=asked.tissue or "",
    )  # fmt: skip


def ensure_slides(setup: Setup, *, progress: bool = False, workers: int = 1, scheduler: str | None = None) -> None:
    """Explain the slides of ``[slide]`` where there is one; shards that are on disk are not repeated.

    A slide that cannot be read or explained is a row of the failures and costs the others nothing; the next run tries it again.
    """
    asked = setup.config.slide
    if asked is None:
        return
    left = [slide for slide in asked_slides(asked) if not slide.done(setup.store.root)]
    if not left:
        setup.store.forget(f"failures/{FOLDER}.parquet")
        return
    setup.named_target(asked.target, "slide.target")
    setup.store.forget(f"{FOLDER}/findings.json", "findings.json", "report.html")
    failed: Rows = []
    begun = [slide for slide in left if _begun(setup, asked, slide, failed)]
    for slide, sentence in _run(setup, begun, progress=progress, workers=workers, scheduler=scheduler):
        failed.append(failure_row(FOLDER, sentence, image=slide.name))
    unfinished = {row["image"] for row in failed}
    for slide in begun:
        if slide.name not in unfinished:
            _finish(setup, asked, slide, failed)
    if failed:
        setup.store.write_failures(FOLDER, failed)
    else:
        setup.store.forget(f"failures/{FOLDER}.parquet")


def _begun(setup: Setup, asked: SlideConfig, slide: AskedSlide, failed: Rows) -> bool:
    """Make the empty map of a slide, or note why it cannot be made."""
    where = slide.map(setup.store.root)
    where.parent.mkdir(exist_ok=True)
    try:
        with opened_slide(asked, slide) as held:
            begin_map(where, slide_choices(setup, asked, held), held)
    except FORESEEN as error:
        if where.exists():  # begun with other choices: to go on would mix them
            raise
        failed.append(failure_row(FOLDER, reason_of(error), image=slide.name))
        return False
    return True


def _run(
    setup: Setup, slides: list[AskedSlide], *, progress: bool, workers: int, scheduler: str | None
) -> Iterator[tuple[AskedSlide, str]]:
    """Explain the shards that are missing; yield what failed."""
    store = setup.store
    stamp = hashlib.sha256(store.study_file.read_bytes()).hexdigest()
    waiting = [
        (slide, corner)
        for slide in slides
        for corner in missing(slide.map(store.root), SlideMap(slide.map(store.root)).grid)
    ]
    if not waiting:
        return
    with (
        shard_bar(progress=progress) as bar,
        open_executor(workers=min(workers, len(waiting)), scheduler=scheduler, device=setup.plan.device) as held,
    ):
        shown = bar.add_task("explaining slides", total=len(waiting))
        executor, width = held
        here = setup if isinstance(executor, Inline) else None
        jobs = (SlideJob(store.root.resolve(), *pair, stamp, setup.trust, here) for pair in waiting)
        for slide, sentence in completed(executor, run_slide_job, jobs, width=width):
            bar.advance(shown)
            if sentence is not None:
                yield slide, sentence


def run_slide_job(job: SlideJob) -> tuple[AskedSlide, str | None]:
    """Explain and write one shard of one slide; return the slide, and the sentence of what failed."""
    with ALONE:
        setup = job.here or opened(job.root, job.stamp, job.trust)
        asked = setup.config.slide
        if asked is None:
            raise BadStudy(f"{job.root} asks for no slide")
        try:
            with fixed_arithmetic(setup.plan.threads), opened_slide(asked, job.slide) as slide:
                choices = slide_choices(setup, asked, slide)
                target = setup.named_target(asked.target, "slide.target")
                explain_shard(job.slide.map(job.root), choices, slide, setup.model, target, job.corner)
        except FORESEEN as error:
            return job.slide, reason_of(error)
    return job.slide, None


def _finish(setup: Setup, asked: SlideConfig, slide: AskedSlide, failed: Rows) -> None:
    """Build the coarser levels of a whole map, the pictures of the report and, last, the table of its tiles."""
    found = SlideMap(slide.map(setup.store.root))
    build_levels(found.path)
    table = tile_table(found, slide.name)
    try:
        with opened_slide(asked, slide) as held:
            shown = pictures(found, held, table, asked.shown)
    except FORESEEN as error:
        failed.append(failure_row(FOLDER, reason_of(error), image=slide.name))
        return
    setup.store.write_tensors(f"{FOLDER}/{slide.kept}.safetensors", shown)
    setup.store.write_table(slide.table, table)


def answer(setup: Setup, _evidence: Evidence) -> Interpretations:
    """Return the tables of the slides that are done: one row a slide, and one row a tile."""
    asked = setup.config.slide
    if asked is None:
        return Interpretations(())
    done = [slide for slide in asked_slides(asked) if slide.done(setup.store.root)]
    if not done:
        return Interpretations(())
    tables = [setup.store.table(slide.table) for slide in done]
    rows: list[dict[str, Any]] = [
        slide_row(SlideMap(slide.map(setup.store.root)), table, slide.name, slide.kept)
        for slide, table in zip(done, tables, strict=True)
    ]
    return Interpretations((), {"slides": pa.Table.from_pylist(rows), "slide_tiles": pa.concat_tables(tables)})
