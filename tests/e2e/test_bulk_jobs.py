"""Jobs of `bulk predict`: any source, any storage, and what is wrong with either is one line and no harm."""

import contextlib
import io
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from common import DIGITS, ROOT
from PIL import Image

import ebjr_det
from ebjr_det.bulk.records import read_records, record_file
from ebjr_det.bulk.storage import Storage
from ebjr_det.core.errors import EbjrError
from ebjr_det.io.records import PartStore

COUNT = 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes(b"no picture")
    return folder


def run(source, out, **settings):
    job = ebjr_det.BulkSettings(**{"shard": 2} | settings)
    return ebjr_det.bulk_predict(ebjr_det.load_config("digits"), str(source), str(out), job, threshold=-0.9)


def files_of(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def job(pictures, tmp_path):
    """A finished job."""
    run(pictures, tmp_path / "job")
    return tmp_path / "job"


def packed(kind, pictures, out):
    contents = [path.read_bytes() for path in sorted(pictures.iterdir())]
    if kind == "parquet":
        pq.write_table(pa.table({"image": contents}), out / "p.parquet", row_group_size=4)
        return out / "p.parquet"
    with tarfile.open(out / "p.tar", "w") as archive:
        for index, content in enumerate(contents):
            member = tarfile.TarInfo(f"{index}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out / "p.tar"


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_pictures_have_the_same_answers_however_they_are_packed(kind, pictures, job, tmp_path):
    result = run(packed(kind, pictures, tmp_path), tmp_path / "packed")
    assert (result.images, result.unreadable) == (COUNT - 1, 1)
    plain, table = (pq.read_table(out / "answers") for out in (job, tmp_path / "packed"))
    named = ["picture", "error"]
    assert table.drop_columns(named).equals(plain.drop_columns(named))
    assert table["error"].is_null().equals(plain["error"].is_null())


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_answers_among_the_pictures_are_refused(address, pictures, refused):
    words = ("bulk", "predict", DIGITS, address.format(pictures), "--threshold", 0, "--out")
    assert "outside of" in refused(*words, pictures / "out")
    assert not (pictures / "out").exists()


LISTS = {
    "UTF-16": ("0.png".encode("utf-16"), "in UTF-8, got"),
    "itself": (b"list.txt", "names itself"),
    "a protocol of nobody": (b"0.png\nnope://host/1.png", "nope://host/1.png"),
}


@pytest.mark.parametrize(("content", "message"), LISTS.values(), ids=LISTS)
def test_a_list_that_is_none_is_one_line_before_the_first_picture(
    content, message, pictures, tmp_path, refused
):
    (tmp_path / "0.png").write_bytes((pictures / "0.png").read_bytes())
    (tmp_path / "list.txt").write_bytes(content)
    words = ("bulk", "predict", DIGITS, tmp_path / "list.txt", "--threshold", 0, "--out", tmp_path / "out")
    assert message in refused(*words)
    assert not (tmp_path / "out/answers").exists()


def test_links_of_a_tar_file_are_told(pictures, tmp_path, capsys):
    (tmp_path / "0.png").write_bytes((pictures / "0.png").read_bytes())
    (tmp_path / "1.png").hardlink_to(tmp_path / "0.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "0.png")
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for index in range(3):
            archive.add(tmp_path / f"{index}.png", f"{index}.png")
    assert run(tmp_path / "some.tar", tmp_path / "out").images == 1
    assert f"Left out of `{tmp_path}/some.tar`: links to pictures (2)." in capsys.readouterr().err


def test_names_of_any_bytes_have_answers(pictures, tmp_path):
    source = tmp_path / "odd"
    source.mkdir()
    names = (b"\xff.png", b"two\nlines.png", b"a::b.png", b"#%[x]?.png")
    for name in names:
        path = os.path.join(os.fsencode(source), name)
        Path(os.fsdecode(path)).write_bytes((pictures / "0.png").read_bytes())
    Path(os.fsdecode(path) + "\udcff.png").write_text("no picture")
    run(source, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/answers").to_pylist()
    assert [Path(row["picture"]).name for row in rows if not row["error"]] == [
        "#%[x]?.png", "a::b.png", "two\nlines.png", r"\xff.png",
    ]  # fmt: skip
    assert sum(r"\xff" in (row["error"] or "") for row in rows) == 1
    assert run(source, tmp_path / "out").resumed == 3


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_any_address_has_the_bytes_of_a_folder(protocol, pictures, job, tmp_path):
    address = f"{protocol}://{tmp_path}/elsewhere"
    run(pictures, address)
    assert run(pictures, address).resumed == COUNT / 2
    fs, root = fsspec.core.url_to_fs(address)
    written = {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}
    assert written == files_of(job)


def other_digest(job):
    settings = json.loads((job / "job.json").read_text())
    (job / "job.json").write_text(json.dumps(settings | {"version": 0}))


def other_shard(job):
    table = pq.read_table(job / "answers/00000001.parquet")
    pq.write_table(table.replace_schema_metadata({"ebjr_det.job": "x"}), job / "answers/00000001.parquet")


def other_manifest(job):
    table = pq.read_table(job / "manifest/000000.parquet")
    pq.write_table(table.slice(1), job / "manifest/000000.parquet", row_group_size=2)


DAMAGE = {
    "no JSON": (lambda job: (job / "job.json").write_text("{"), "job.json`, got:"),
    "no object": (lambda job: (job / "job.json").write_text("[]"), "job.json`, got"),
    "no numbers": (lambda job: (job / "job.json").write_text('{"version": 1}'), "as in the job"),
    "another version": (other_digest, "`version` as in the job"),
    "another job's shard": (other_shard, "another job or version"),
    "half a shard": (
        lambda job: (job / "answers/00000001.parquet").write_bytes(b"PAR1"), "whole shard.*makes it anew",
    ),
    "another manifest": (other_manifest, "pictures of the job"),
    "half a manifest": (lambda job: (job / "manifest/000000.parquet").write_bytes(b"PAR1"), "0.parquet`"),
    "no manifest": (lambda job: (job / "manifest/000000.parquet").unlink(), "000000.parquet`"),
    "another file": (lambda job: (job / "answers/x.parquet").touch(), "answers/x.parquet`.*elsewhere"),
    "no job": (lambda job: (job / "job.json").unlink(), "other files"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_folder_that_is_not_this_job_s_is_one_line_and_stays(name, pictures, job):
    damage, message = DAMAGE[name]
    damage(job)
    before = files_of(job)
    with pytest.raises(EbjrError, match=message) as caught:
        run(pictures, job)
    assert "\n" not in str(caught.value)
    assert files_of(job) == before


@pytest.mark.parametrize("change", ["size", "more", "fewer"])
def test_a_source_that_has_changed_is_told_by_its_first_picture(change, pictures, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in pictures.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    run(source, tmp_path / "out")
    match change:
        case "size":
            Image.new("RGB", (9, 9)).save(source / "4.png")
        case "more":
            (source / "2a.png").touch()
        case "fewer":
            (source / "5.png").unlink()
    index = {
        "size": "4.*4.png",
        "more": "3 .*2a.png` of 0 bytes instead of .*3.png",
        "fewer": "5 none instead",
    }
    with pytest.raises(EbjrError, match=rf"index {index[change]}"):
        run(source, tmp_path / "out")


def test_a_mount_that_goes_away_and_returns_loses_nothing(pictures, tmp_path):
    source = tmp_path / "list.txt"
    source.write_text("".join(f"{tmp_path}/mount/{path.name}\n" for path in sorted(pictures.iterdir())))
    (tmp_path / "mount").symlink_to(pictures)
    run(source, tmp_path / "job")
    expected = files_of(tmp_path / "job")
    (tmp_path / "job/answers/00000001.parquet").unlink()
    (tmp_path / "mount").rename(tmp_path / "away")
    with pytest.raises(EbjrError, match=r"anything in its folder.*the same command goes on"):
        run(source, tmp_path / "job")
    assert len(files_of(tmp_path / "job")) == len(expected) - 1
    (tmp_path / "away").rename(tmp_path / "mount")
    run(source, tmp_path / "job")
    assert files_of(tmp_path / "job") == expected


@pytest.mark.parametrize("address", ["nope://out", "s3://bucket/out", "{here}/file/out", "{here}/file"])
def test_an_address_that_cannot_be_written_to_is_one_line(address, pictures, refused, tmp_path):
    (tmp_path / "file").touch()
    out = address.format(here=tmp_path)
    complaint = refused("bulk", "predict", DIGITS, pictures, "--out", out, "--threshold", 0)
    assert out.rstrip("/") in complaint
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("out", ["", "/", "file:///", "memory://"])
def test_an_out_without_a_name_is_one_line_and_nothing_is_written(
    out, pictures, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    refused("bulk", "predict", DIGITS, pictures, "--out", out, "--threshold", 0)
    assert not list(tmp_path.iterdir())
    assert not Path("/job.json").exists()


def test_nothing_is_no_source_and_a_shard_has_a_bound(pictures, tmp_path):
    with pytest.raises(EbjrError, match="got an empty path"):
        run("", tmp_path / "out")
    with pytest.raises(EbjrError, match="`shard` from 1 to 1000000000, got"):
        run(pictures, tmp_path / "out", shard=10**20)
    assert not (tmp_path / "out").exists()


@contextlib.contextmanager
def full_disk(size, monkeypatch):
    """Files cannot grow beyond this size, as on a disk that is full."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.redirect_stderr(io.StringIO()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize("size", [1000, 4000])  # less than a manifest, or than a shard
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(size, pictures, job, tmp_path, monkeypatch):
    with full_disk(size, monkeypatch), pytest.raises(EbjrError, match=r"to write.*File too large"):
        run(pictures, tmp_path / "out")
    written = files_of(tmp_path / "out")
    assert ("job.json" in written) == (size == 4000)
    assert all(files_of(job)[name] == content for name, content in written.items())
    run(pictures, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(job)


def test_what_killed_writers_left_is_cleared_and_what_others_write_is_not(pictures, job):
    expected = files_of(job)
    (job / "answers/00000001.parquet").unlink()
    dead = job / f"answers/.00000001-{platform.node()}-4194305-0123abcd.parquet"
    others = [
        job / f"answers/.00000001-{platform.node()}-{os.getpid()}-0123abcd.parquet",
        job / "manifest/.000000-another-host-4194305-0123abcd.parquet",
    ]
    for path in (dead, *others):
        path.touch()
    run(pictures, job)
    assert not dead.exists()
    for path in others:
        path.unlink()
    assert files_of(job) == expected


def test_empty_records_of_an_earlier_version_hold_no_image(tmp_path):
    storage = Storage(str(tmp_path))
    (tmp_path / record_file(0)).parent.mkdir()
    (tmp_path / record_file(0)).touch()
    assert read_records(PartStore, storage, 0, "any") is None


def test_several_calls_at_once_do_each_other_no_harm(pictures, job, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: run(pictures, tmp_path / "both"), range(2)))
    assert files_of(tmp_path / "both") == files_of(job)


def test_a_worker_that_is_killed_loses_nothing(pictures, job, tmp_path):
    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        children[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(EbjrError, match="the same command goes on"):
        run(pictures, tmp_path / "out", workers=2)
    thread.join()
    run(pictures, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(job)


ORPHAN = """
import multiprocessing, os, signal
from ebjr_det.bulk import executors
worker = multiprocessing.get_context("spawn").Process(target=executors._end_with_parent)
worker.start()
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_process_that_is_killed(tmp_path):
    (tmp_path / "orphan.py").write_text(f"if __name__ == '__main__':{textwrap.indent(ORPHAN, '    ')}")
    words, environment = (
        [sys.executable, str(tmp_path / "orphan.py")],
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as killed:
        worker = Path("/proc") / killed.stdout.readline().strip()
    while worker.exists() and "(zombie)" not in (worker / "status").read_text():
        time.sleep(0.05)
