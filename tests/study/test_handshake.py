"""A worker whose code differs is refused by name; one that joins later is asked too."""

import subprocess
import sys

import pytest

from pellucid.errors import BadStudy
from pellucid.study.handshake import code_question, refuse_other_code


class Cluster:
    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def scheduler_info(self, n_workers):
        return {"workers": dict.fromkeys(self.answers)}

    def run(self, question, *, workers, on_error):
        self.asked.append(sorted(workers))
        return {name: question() if self.answers[name] is None else self.answers[name] for name in workers}


def test_every_worker_is_asked_once_and_a_late_one_too():
    cluster, known = Cluster(a=None, b=None), set()
    refuse_other_code(cluster, known)
    refuse_other_code(cluster, known)
    cluster.answers["late"] = None
    refuse_other_code(cluster, known)
    assert cluster.asked == [["a", "b"], ["late"]]
    assert known == {"a", "b", "late"}


@pytest.mark.parametrize(("answer", "said"), [("0" * 64, "runs another pellucid"), ("none", "has no pellucid")])
def test_a_worker_with_other_code_is_refused_in_a_sentence(answer, said):
    known = set()
    with pytest.raises(BadStudy, match=f"1 of 2 Dask workers would give other numbers: b {said}"):
        refuse_other_code(Cluster(a=None, b=answer), known)
    assert not known


def test_the_question_is_answered_where_there_is_another_pellucid(tmp_path):
    cloudpickle = pytest.importorskip("cloudpickle")
    (tmp_path / "pellucid").mkdir()
    (tmp_path / "pellucid" / "__init__.py").write_text("")
    (tmp_path / "question").write_bytes(cloudpickle.dumps(code_question()))
    program = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))())"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "question")], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert len(done.stdout.strip()) == 64
    assert done.stdout.strip() != code_question()()
