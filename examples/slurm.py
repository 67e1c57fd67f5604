"""A study on a Slurm cluster: each job is one worker that loads the model once; the study's directory lies on a shared file system.

pip install "pellucid[dask]" dask-jobqueue
python examples/slurm.py study.toml --out study --jobs 20 --queue gpu --gpus 1

The leader may run on a login node: it holds no pixels and no model of its own while the tasks run. When it is killed, or the
jobs reach their time limit, the same command goes on where the study stood.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.study import Study


def slurm(asked: argparse.Namespace) -> Any:
    """Return a cluster whose workers are Slurm jobs."""
    from dask_jobqueue import SLURMCluster  # noqa: PLC0415  # only where there is a Slurm

    gpu = [f"--gres=gpu:{asked.gpus}"] if asked.gpus else []
    # a worker is one process with one thread: a task has the model, and on a GPU node the GPU, to itself
    worker = ["--resources", "GPU=1"] if asked.gpus else []
    return SLURMCluster(
        queue=asked.queue, cores=1, processes=1, memory=asked.memory, walltime=asked.walltime, job_extra_directives=gpu,
        worker_extra_args=[*worker, "--lifetime", asked.lifetime], job_script_prologue=["export OMP_NUM_THREADS=1"],
    )  # fmt: skip


def main(arguments: list[str] | None = None, cluster_of: Callable[[argparse.Namespace], Any] = slurm) -> Path:
    """Run a study on a cluster and return where its report is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("toml", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--queue", default="normal")
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="GPUs a job")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("--lifetime", default="225m", help="when a worker ends by itself: a little before the walltime")
    asked = parser.parse_args(arguments)
    study = Study.create(asked.toml, asked.out)
    with cluster_of(asked) as cluster:
        cluster.adapt(minimum=1, maximum=asked.jobs)  # jobs come when there is work and go when there is none
        study.run(scheduler=cluster.scheduler_address, progress=True)
    return study.report()


if __name__ == "__main__":
    print(f"report: {main()}")
