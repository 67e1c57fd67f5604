"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pellucid.study import Study

__all__ = ["app", "main"]

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_SHOWN = 20
_WIDE = 200
"""Columns of a table that goes to a file or another program."""

app = typer.Typer(
    name="pellucid",
    help="Explain, test and rank what an image model uses, and say what it means.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Toml = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The study's directory.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="The images, in place of images.path.")]
Trust = Annotated[bool, typer.Option("--trust", help="Execute what the model's file or factory holds.")]
Workers = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes on this machine.")]
Scheduler = Annotated[str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


class PhantomName(StrEnum):
    """The phantom families."""

    cells = "cells"
    grain = "grain"


def main() -> None:
    """Run the command line."""
    app()


def _command(function: Callable[..., int]) -> Callable[..., None]:
    """Make a command of a function: its exit code is the returned one, 2 on bad input, 130 when interrupted."""

    @app.command(name=function.__name__)
    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        from pellucid.errors import PellucidError  # noqa: PLC0415  # a package that keeps --help quick

        try:
            code = function(*args, **kwargs)
        except PellucidError as error:
            code = _refused(error)
        except KeyboardInterrupt:
            code = _interrupted()
        raise typer.Exit(code)

    return command


def _refused(error: Exception) -> int:
    typer.echo(f"pellucid: {' '.join(str(error).split())}", err=True)
    return BAD_INPUT


def _interrupted() -> int:
    typer.echo("pellucid: interrupted; finished parts are kept, the same command goes on from there", err=True)
    return INTERRUPTED


def _found_code(path: Path, trust: bool) -> None:
    """Let a factory that lies beside the study file be imported once it is trusted."""
    if trust:
        sys.path.insert(0, str(path.resolve().parent))


def _finish(study: "Study", workers: int, scheduler: str | None) -> int:
    """Run a study to its end, write its report, and say what failed."""
    failures = study.run(progress=True, workers=workers, scheduler=scheduler)
    report = study.report()
    typer.echo(f"report: {report}")
    rows = failures.to_pylist()
    for row in rows[:_SHOWN]:
        where = " · ".join(part for part in (row["image"], row["method"], row["metric"]) if part)
        typer.echo(f"{row['stage']}: {where}: {row['sentence']}", err=True)
    if len(rows) > _SHOWN:
        typer.echo(f"... and {len(rows) - _SHOWN} more in {study.path / 'failures.parquet'}", err=True)
    return SOME_FAILED if rows else DONE


@_command
def demo(
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller: under three minutes on two cores.")] = False,
    phantom: Annotated[PhantomName, typer.Option(help="What is drawn.")] = PhantomName.cells,
    shortcut: Annotated[bool, typer.Option("--shortcut", help="Plant a tag that betrays the label.")] = False,
    workers: Workers = 1,
) -> int:
    """Run a study of synthetic images with known truth from end to end, and say where the report is."""
    from pellucid.study import Study  # noqa: PLC0415
    from pellucid.study.demo import write_demo  # noqa: PLC0415

    name = "-".join(["pellucid", "demo", phantom.value, *["shortcut"] * shortcut, *["quick"] * quick])
    folder = out or Path(name)
    toml = write_demo(folder, phantom=phantom.value, shortcut=shortcut, quick=quick)
    return _finish(Study.create(toml, folder), workers, None)


@_command
def run(
    toml: Toml,
    out: Out = None,
    data: Data = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    trust: Trust = False,
) -> int:
    """Run a study, or go on with one that was interrupted."""
    from pellucid.study import Study, default_out  # noqa: PLC0415

    _found_code(toml, trust)
    study = Study.create(toml, out or default_out(toml), data=data, trust=trust)
    typer.echo(f"study: {study.path}")
    return _finish(study, workers, scheduler)


@_command
def check(toml: Toml, data: Data = None, trust: Trust = False) -> int:
    """Find what would fail, now: paths, columns, one image, the model, every method."""
    from pellucid.study import check_study  # noqa: PLC0415

    _found_code(toml, trust)
    checked = check_study(toml, data=data, trust=trust)
    for note in checked.notes:
        typer.echo(note)
    for problem in checked.problems:
        typer.echo(f"would fail: {problem}", err=True)
    return SOME_FAILED if checked.problems else DONE


@_command
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory.")], trust: Trust = False
) -> int:
    """Write the report of a finished study again."""
    from pellucid.study import Study  # noqa: PLC0415

    typer.echo(f"report: {Study(folder, trust=trust).report()}")
    return DONE


@_command
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORMAT", help="ome-zarr, ome-tiff, nifti, dicom, qupath, csv, anndata, napari."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where; default DIR/exports/FORMAT.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", metavar="ID", help="Only this image; may be given again.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="METHOD", help="Only this method; may be given again.")
    ] = None,
    trust: Trust = False,
) -> int:
    """Write a study's images, maps, masks and numbers for another program."""
    from pellucid.study import Study  # noqa: PLC0415

    study = Study(folder, trust=trust)
    typer.echo(f"export: {study.export(to, out, ids=image or None, methods=method or None)}")
    return DONE


@_command
def methods(as_json: AsJson = False) -> int:
    """List the methods, what each needs of the model and what it costs."""
    from pellucid.study.catalogue import method_catalogue  # noqa: PLC0415

    return _listed(method_catalogue(), ("name", "family", "needs", "cost", "question"), as_json)


@_command
def metrics(as_json: AsJson = False) -> int:
    """List the metrics, what each needs and what it costs."""
    from pellucid.study.catalogue import metric_catalogue  # noqa: PLC0415

    return _listed(metric_catalogue(), ("name", "family", "direction", "needs", "cost", "measures"), as_json)


def _listed(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> int:
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return DONE
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for row in rows:
        table.add_row(*(", ".join(row[name]) if isinstance(row[name], list) else str(row[name]) for name in columns))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    return DONE
