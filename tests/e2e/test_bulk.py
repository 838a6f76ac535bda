"""Any number of pictures: shards go on, whoever works on them, and say what `predict` says."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from multiprocessing.context import SpawnProcess
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from common import DIGITS, ROOT
from PIL import Image

import ebjr_det
from ebjr_det.bulk.executors import Stages, run_processes
from ebjr_det.bulk.identity import identity_of
from ebjr_det.bulk.manifest import Manifest
from ebjr_det.core.errors import EbjrError
from ebjr_det.inference.live import choose_threshold, settled
from ebjr_det.inference.pair import with_device
from ebjr_det.tasks import load_task

THRESHOLD = 0.3  # near the middle of what noise is doubted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(10):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index:02d}.png")
    (folder / "05.png").write_bytes(b"no picture")
    return folder


def answer(pictures, out, **settings):
    config = ebjr_det.load_config("digits", ["run.batch_size=2"])
    job = ebjr_det.BulkSettings(**{"shard": 4} | settings)
    return ebjr_det.bulk_predict(config, str(pictures), str(out), job, threshold=THRESHOLD)


def files_of(out):
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def test_each_picture_is_a_row_with_what_predict_says(pictures, tmp_path):
    result = answer(pictures, tmp_path / "bulk")
    ebjr_det.predict(
        ebjr_det.load_config("digits"), [str(pictures)], tmp_path / "predict", threshold=THRESHOLD
    )
    told = json.loads((tmp_path / "predict/images.json").read_text())
    table = pq.read_table(tmp_path / "bulk/answers")
    assert (result.images, result.unreadable, result.shards) == (9, 1, 3)
    assert table["index"].to_pylist() == list(range(10))
    rows = table.to_pylist()
    assert "05.png" in rows[5]["error"]
    assert rows[5]["label"] is None
    readable = [row for row in rows if row["error"] is None]
    for row, entry in zip(readable, told, strict=True):
        assert (row["picture"], row["answered_by"]) == (entry["file_name"], entry["answered_by"])
        np.testing.assert_allclose(row["deferral_score"], entry["deferral_score"], atol=1e-6)


def test_processes_and_what_is_gone_on_with_give_the_same_bytes(pictures, tmp_path):
    answer(pictures, tmp_path / "whole")
    answer(pictures, tmp_path / "processes", workers=2)
    assert files_of(tmp_path / "processes") == files_of(tmp_path / "whole")
    (tmp_path / "processes/answers/00000001.parquet").unlink()
    result = answer(pictures, tmp_path / "processes")
    assert result.resumed == 2
    assert files_of(tmp_path / "processes") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "auto"], "--ray beside"),
        (["--ray", "--address", ""], "as auto, HOST:PORT"),
        (["--ray", "--address", "127.0.0.1:1"], "Ray cluster at `127.0.0.1:1`, got: Connection refused"),
    ],
)
def test_no_cluster_is_one_line(options, words, pictures, refused, tmp_path):
    assert words in refused("bulk", "predict", DIGITS, pictures, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"workers": 2}, {"ray": "local"}])
def test_files_that_one_process_alone_has_are_not_for_several(settings, pictures):
    with pytest.raises(EbjrError, match="--out that all workers see"):
        answer(pictures, "memory://bulk", **settings)


def test_a_cluster_without_the_package_is_one_line(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EbjrError, match="got no ray"):
        answer(pictures, tmp_path, ray="local")


@pytest.mark.slow
def test_a_ray_whose_workers_are_killed_gives_the_same_bytes(pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(pictures.parent)
    answer(pictures.name, tmp_path / "whole", shard=1)
    options = ["--shard", "1", "--threshold", THRESHOLD, "--set", "run.batch_size=2", "--ray", "--json"]
    command = [
        sys.executable,
        "-m",
        "ebjr_det",
        "bulk",
        "predict",
        DIGITS,
        pictures.name,
        "--out",
        tmp_path / "ray",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([str(word) for word in [*command, *options]], env=environment, **pipes) as process:
        while process.poll() is None and not list((tmp_path / "ray").glob("answers/*.parquet")):
            time.sleep(0.05)
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # some of Ray's end by themselves
                    if "MapWorker" in child.cmdline()[0]:
                        child.kill()
        told, log = process.communicate()
    assert process.returncode == 0, log
    assert json.loads(told)["images"] == 9
    assert "Traceback" not in log
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "whole")


def test_a_job_of_other_pictures_or_of_another_cut_is_refused(pictures, tmp_path):
    answer(pictures, tmp_path / "bulk")
    before = files_of(tmp_path / "bulk")
    with pytest.raises(EbjrError, match="shard"):
        answer(pictures, tmp_path / "bulk", shard=5)
    with pytest.raises(EbjrError, match="pictures"):
        answer(pictures / "00.png", tmp_path / "bulk")
    assert files_of(tmp_path / "bulk") == before


@pytest.mark.parametrize(
    ("config", "setting", "other", "named"),
    [
        ("digits_tiers", "tiers.1.router.threshold=0.01", "tiers.1.router.threshold=5.0", "tiers.1.router"),
        ("digits_tiers", "tiers.1.router.threshold=0.1", "tiers.1.router.score=entropy", "tiers.1.router"),
        ("digits", "router.options={temperature: 2.0}", "router.options={temperature: 3.0}", "options"),
    ],
)
def test_a_job_goes_on_with_the_routers_that_it_began_with(config, setting, other, named, pictures, tmp_path):
    def run(*changes):
        settings = ebjr_det.load_config(
            config, ["router.score=free_energy"] * (config == "digits") + [*changes]
        )
        job = ebjr_det.BulkSettings(4)
        return ebjr_det.bulk_predict(
            settings, str(pictures), str(tmp_path / "bulk"), job, threshold=THRESHOLD
        )

    run(setting)
    assert run(setting).resumed == 3
    (tmp_path / "bulk/answers/00000001.parquet").unlink()
    with pytest.raises(EbjrError, match=f"{named}.* as in the job"):
        run(setting, other)
    assert run(setting).resumed == 2


def test_a_job_goes_on_with_the_runtimes_that_it_chose(pictures, tmp_path, capfd):
    answer(pictures, tmp_path / "bulk")
    config = ebjr_det.load_config("digits", ["run.batch_size=2", "student.runtime=auto"])
    job = ebjr_det.BulkSettings(4)
    result = ebjr_det.bulk_predict(config, str(pictures), str(tmp_path / "bulk"), job, threshold=THRESHOLD)
    assert result.resumed == 3
    assert ": runtime" not in capfd.readouterr().err  # of what was tried


def test_answers_depend_on_the_classes_and_the_device(tmp_path):
    config, classes = settled(ebjr_det.load_config("digits"), list)
    scoring, _ = choose_threshold(config, 0.0, None)
    names = dict(enumerate(classes.class_names))

    def identify(config, categories):
        of = SimpleNamespace(class_names=tuple(categories.values()), categories=categories)
        return identity_of(config, of, scoring, 0.0)

    before = identity_of(config, classes, scoring, 0.0)
    assert identify(config, names) == before
    assert before["run.device"] != "auto"
    for other in ({**names, 3: "drei"}, {key + 1: name for key, name in names.items()}):
        assert identify(config, other)["classes"] != before["classes"]
    assert identify(with_device(config, "other"), names)["run.device"] == "other"


def test_answers_depend_on_what_makes_eight_bits(monkeypatch):
    def identify(*changes):
        config = ebjr_det.load_config("digits", ["router.score=max_softmax", *changes])
        scoring, _ = choose_threshold(config, 0.0, None)
        return identity_of(config, load_task(config.task).data.build_named(**dict(config.data)), scoring, 0.0)

    in_eight_bits = "student.runtime=onnxruntime_int8"
    before, seeded = identify(in_eight_bits), identify(in_eight_bits, "run.seed=1")
    assert {key for key in before if before[key] != seeded[key]} == {"calibration"}
    monkeypatch.setattr("ebjr_det.runtimes.int8.PRODUCTS_FROM", "json")  # another rule
    ruled = identify(in_eight_bits)
    assert {key for key in before if before[key] != ruled[key]} == {"eight bits"}
    assert before.keys() - identify().keys() == {"calibration", "eight bits"}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_refuses_is_told_as_it_is(workers, tmp_path):
    stages = Stages((partial(ebjr_det.load_config, str(tmp_path / "absent.yaml")),), 1)
    with pytest.raises(EbjrError, match=r"absent\.yaml"):
        list(run_processes(stages, range(3), workers))


def test_a_worker_that_dies_while_another_begins_is_told(monkeypatch, tmp_path):
    begin, begun = SpawnProcess.start, []

    def start(process):
        time.sleep(0.1 * len(begun))  # in which the first one's death is seen
        begin(process)
        begun.append(process)
        begun[0].kill()

    monkeypatch.setattr(SpawnProcess, "start", start)
    stages = Stages((partial(ebjr_det.load_config, str(tmp_path / "absent.yaml")),), 1)
    with pytest.raises(EbjrError, match="the same command goes on"):
        list(run_processes(stages, range(3), 3))
    assert len(begun) == 3


def test_pictures_of_a_large_job_are_compared_where_its_source_changed(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("ebjr_det.bulk.job.MANY", 1)
    source, lines = tmp_path / "list.txt", [f"{path}\n" for path in sorted(pictures.iterdir())]
    source.write_text("".join(lines))
    answer(source, tmp_path / "bulk")
    compare, compared = Manifest.check, []
    monkeypatch.setattr(Manifest, "check", lambda *arguments: compared.append(compare(*arguments)))
    assert (answer(source, tmp_path / "bulk").resumed, compared) == (3, [])
    source.write_text("".join(reversed(lines)))
    with pytest.raises(EbjrError, match="got at index 0"):
        answer(source, tmp_path / "bulk")


EVALUATED = ["run.batch_size=16", "run.bootstrap=2", "latency.measure=false", "data.limit=100"]
RECORDS = {"digits": "run.npz", "digits_tiers": "tiers.npz"}


@pytest.mark.parametrize(
    ("name", "workers"), [("digits", 0), pytest.param("digits_tiers", 2, marks=pytest.mark.slow)]
)
def test_an_evaluation_by_shards_is_that_of_evaluate(tmp_path, name, workers):
    config = ebjr_det.load_config(name, EVALUATED)
    whole = ebjr_det.evaluate(config, tmp_path / "whole")
    sharded = ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32, workers))
    files, expected = files_of(tmp_path / "bulk"), files_of(tmp_path / "whole")
    assert files.keys() == expected.keys()  # no shards are left
    for file in (RECORDS[name], "config.yaml"):
        assert files[file] == expected[file]
    assert sharded.summary | {"run_dir": ""} == whole.summary | {"run_dir": ""}
    (tmp_path / "bulk/shards").mkdir()
    (tmp_path / "bulk/shards/notes.txt").touch()
    ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32, workers))
    assert (tmp_path / "bulk/shards/notes.txt").is_file()  # which is not the job's


@pytest.mark.parametrize("out", ["", "memory://run"])
def test_the_run_folder_of_an_evaluation_is_a_path(out, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    assert "a path of this machine" in refused("bulk", "evaluate", DIGITS, "--out", out)
    with pytest.raises(EbjrError, match="the path of a run folder"):
        ebjr_det.bulk_evaluate(ebjr_det.load_config("digits"), out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECORDS)
def test_an_evaluation_goes_on_with_the_shards_that_are_there(name, tmp_path, monkeypatch):
    config, file = ebjr_det.load_config(name, EVALUATED), RECORDS[name]
    ebjr_det.bulk_evaluate(config, tmp_path / "whole", ebjr_det.BulkSettings(32))
    from ebjr_det.bulk.records import RecordStage

    works, shards = RecordStage.__call__, []

    def dies(stage, index):
        if len(shards) == 2:
            raise KeyboardInterrupt
        shards.append(index)
        return works(stage, index)

    monkeypatch.setattr(RecordStage, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32))
    monkeypatch.setattr(RecordStage, "__call__", works)
    judged = (tmp_path / "bulk/judged.json").read_bytes()
    for name, other in {"READING": 0, "digest_of": lambda images: "of other annotations"}.items():
        with monkeypatch.context() as changed:
            changed.setattr(f"ebjr_det.evaluation.judged.{name}", other)
            with pytest.raises(EbjrError, match=r"got .*Choose another --out"):
                ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32))
    assert (tmp_path / "bulk/judged.json").read_bytes() == judged
    shard = tmp_path / "bulk/shards/records/00000001.npz"
    content = shard.read_bytes()
    with ZipFile(shard, "a") as archive:
        archive.comment = b"x" * len(archive.comment)
    with pytest.raises(EbjrError, match=r"00000001\.npz`, got one of another job"):
        ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32))
    shard.write_bytes(content)
    ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(32))
    assert (tmp_path / "bulk" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_shard_that_cuts_a_batch_is_refused_at_once(tmp_path):
    config = ebjr_det.load_config("digits", ["run.batch_size=16"])
    with pytest.raises(EbjrError, match="multiple"):
        ebjr_det.bulk_evaluate(config, tmp_path / "bulk", ebjr_det.BulkSettings(24))
    assert not (tmp_path / "bulk").exists()


def test_a_job_goes_on_with_its_number_of_threads(pictures, tmp_path, monkeypatch, capfd):
    out, request = tmp_path / "bulk", tmp_path / "bulk/job.json"
    monkeypatch.setattr("ebjr_det.io.threads.usable_cpus", lambda: 2)
    monkeypatch.setattr("ebjr_det.api.bulk.usable_cpus", lambda: 2)
    answer(pictures, out)
    begun = json.loads(request.read_text())
    other = 3 - begun["threads"]
    (out / "answers/00000001.parquet").unlink()
    monkeypatch.setenv("OMP_NUM_THREADS", str(other))
    assert answer(pictures, out).resumed == 2
    config = ebjr_det.load_config("digits", ["run.batch_size=2", f"run.threads={other}"])
    with pytest.raises(EbjrError, match=f"`threads` as in the job.* {begun['threads']}, got {other}"):
        ebjr_det.bulk_predict(config, str(pictures), str(out), ebjr_det.BulkSettings(4), threshold=THRESHOLD)
    monkeypatch.setattr("ebjr_det.api.bulk.usable_cpus", lambda: 0)  # fewer than at its beginning
    (out / "answers/00000001.parquet").unlink()
    assert answer(pictures, out).resumed == 2
    assert "this process may use 0 CPUs" in capfd.readouterr().err
    monkeypatch.setattr("ebjr_det.api.bulk.usable_cpus", lambda: 2)
    del begun["threads"]
    shutil.rmtree(out / "answers")
    request.write_text(json.dumps(begun, indent=2) + "\n")  # as an earlier version has it
    capfd.readouterr()
    assert answer(pictures, out).shards == 3
    assert "does not tell its number of threads" in capfd.readouterr().err
    assert answer(pictures, out).resumed == 3


def test_a_source_of_nothing_leaves_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "absent.txt"):
        with pytest.raises(EbjrError, match="got none"):
            answer(tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
