import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.errors import BadStudy
from pellucid.study import Study
from pellucid.study.bundle import bundle
from pellucid.study.record import seal, verify
from pellucid.study.replay import compare_scores, replay


@pytest.fixture(scope="module")
def done(tmp_path_factory, new_bench):
    home = new_bench(tmp_path_factory.mktemp("record"))
    study = Study.create(home / "study.toml", home / "out")
    study.run()
    return study


@pytest.fixture
def copy(done, tmp_path):
    """The study with its images and model elsewhere, as they would lie on another machine."""
    shutil.copytree(done.path.parent, tmp_path / "home")
    return tmp_path / "home" / "out"


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_bytes(b"0123456789abcdef0123456789abcdef")
    return tmp_path / "key"


def test_an_untouched_study_is_as_recorded(copy, key):
    bundle(copy)
    seal(copy, key=key)
    found = verify(copy, key=key)
    assert found.problems == found.notes == ()
    assert found.files > 30


def test_every_changed_missing_and_added_file_is_named(copy):
    bundle(copy)
    seal(copy)
    part = copy / "scores" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    (copy / "images" / "data" / "im03.png").write_bytes(b"another image")
    (copy / "findings.json").unlink()
    (copy / "notes.txt").write_text("new")
    (copy / "exports").mkdir()
    (copy / "exports" / "a.csv").write_text("made again at any time")
    assert set(verify(copy).problems) == {
        "scores/part-00001.parquet: changed",
        "images/data/im03.png: changed",
        "findings.json: missing",
        "notes.txt: added after the record was made",
    }


def test_images_outside_the_directory_are_checked_too_and_missed_when_gone(done, tmp_path):
    seal(done.path)
    assert verify(done.path).problems == ()
    assert verify(done.path).images == 25  # 8 images, 16 masks, labels.csv
    labels = done.path.parent / "data" / "labels.csv"
    text = labels.read_text()
    labels.write_text(text + "\n")
    assert verify(done.path).problems == ("images: labels.csv: changed",)
    labels.write_text(text)
    (done.path.parent / "data").rename(tmp_path / "away")
    problems = verify(done.path).problems
    (tmp_path / "away").rename(done.path.parent / "data")
    assert problems == ("images: the folder data is not there; none of its files was checked",)
    (done.path / "record.json").unlink()


def test_a_record_that_was_changed_or_signed_by_another_is_seen(copy, key, tmp_path):
    bundle(copy)
    record = seal(copy, key=key)
    (tmp_path / "other").write_bytes(b"fedcba9876543210fedcba9876543210")
    assert verify(copy, key=tmp_path / "other").problems == (
        "record.json: the signature is not of this key and this content",
    )
    told = json.loads(record.read_text())
    told["files"]["findings.json"] = "0" * 64
    record.write_text(json.dumps(told))
    problems = verify(copy, key=key).problems
    assert "record.json: it was changed itself, its hash does not fit what it says" in problems
    seal(copy)
    assert verify(copy, key=key).problems == ("record.json: it is not signed",)


def test_another_version_is_a_note_and_no_problem(copy, monkeypatch):
    bundle(copy)
    seal(copy)
    monkeypatch.setattr("pellucid.study.record.code_digest", lambda: "another")
    found = verify(copy)
    assert found.problems == ()
    assert found.notes == ("the code of pellucid is another than when the record was made",)


@pytest.mark.parametrize(
    ("content", "told"), [(b"short", "has 5 bytes"), (b"-----BEGIN PRIVATE KEY-----", "is a PEM key")]
)
def test_a_weak_or_foreign_key_is_refused(copy, tmp_path, content, told):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadStudy, match=told):
        seal(copy, key=tmp_path / "bad")
    with pytest.raises(BadStudy, match="cannot be read"):
        seal(copy, key=tmp_path / "absent")


def test_a_directory_without_a_record_is_one_sentence(copy):
    with pytest.raises(BadStudy, match=r"has no record\.json yet"):
        verify(copy)


def test_a_bundled_study_replays_elsewhere_from_its_directory_alone(copy, done, tmp_path):
    assert len(bundle(copy)) == 2
    assert bundle(copy) == ()
    moved = tmp_path / "machine" / "study"
    moved.parent.mkdir()
    shutil.move(copy, moved)
    shutil.rmtree(tmp_path / "home")
    found = replay(moved, tmp_path / "again")
    assert (found.scores, found.equal, found.largest, found.missing) == (120, 120, 0.0, 0)
    assert found.same
    Study(moved).run()
    assert Study(moved).scores.table.equals(done.scores.table)


def test_scores_that_differ_are_counted(done):
    table = done.scores.table
    values = table["value"].to_pylist()
    values[0] = values[0] * (1 + 1e-3) + 1e-3
    import pyarrow as pa

    other = table.set_column(table.column_names.index("value"), table.schema.field("value"), pa.array(values)).slice(
        0, 119
    )
    found = compare_scores(table, other)
    assert (found.scores, found.equal, found.missing) == (120, 118, 1)
    assert found.largest > 1e-4
    assert not found.same


def test_the_command_line_seals_and_verifies(copy, key):
    run = CliRunner().invoke
    done = run(app, ["record", str(copy), "--bundle", "--key", str(key)])
    assert done.exit_code == 0, done.output
    assert run(app, ["check", "--verify", str(copy), "--key", str(key)]).exit_code == 0
    (copy / "ranking.parquet").write_bytes(b"nonsense")
    broken = run(app, ["check", "--verify", str(copy), "--key", str(key)])
    assert broken.exit_code == 1
    assert "ranking.parquet: changed" in broken.output
    assert "1 differences" in broken.output


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen is installed")
def test_a_reader_without_the_secret_checks_a_signature_by_the_public_key(copy, tmp_path):
    """As docs/scale.md says it: `record.json` holds one hash over everything, so signing that file signs the study."""
    bundle(copy)
    record = seal(copy)

    def run(*command, given=None):
        return subprocess.run(
            ["ssh-keygen", *map(str, command)], input=given, capture_output=True, check=False
        ).returncode

    assert run("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "own") == 0
    assert run("-Y", "sign", "-f", tmp_path / "own", "-n", "pellucid", record) == 0
    (tmp_path / "signers").write_text(f"ann {(tmp_path / 'own.pub').read_text()}")
    check = ("-Y", "verify", "-f", tmp_path / "signers", "-I", "ann", "-n", "pellucid", "-s", f"{record}.sig")
    assert run(*check, given=record.read_bytes()) == 0
    assert verify(copy).problems == ()
    assert run(*check, given=record.read_bytes().replace(b'"record": 1', b'"record": 2')) != 0
