"""The loop alone, on a toy: what is kept, what a break changes (nothing), what several processes share."""

import csv

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ebjr_det.config import ScheduleSection
from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput
from ebjr_det.io.checkpoints.fitting import load_into
from ebjr_det.training.loop import Learner, Trainer
from ebjr_det.training.ranks import Ranks
from ebjr_det.training.state import load_state, write_weights

PLAN = {
    "steps": 20,
    "batch_size": 4,
    "optimizer": "sgd",
    "lr": 0.05,
    "policy": "one_cycle",
    "validate_every": 4,
    "save_every": 3,
    "ema_decay": 0.9,
}
QUALITIES = (0.2, 0.7, 0.9, 0.9, 0.4)  # of the five validations: the third is the first of the best


class Cut(BaseException):
    """Not an Exception: nothing may catch it on the way."""


class Numbers:
    """Picture k is four numbers and a label that follow from k."""

    def __getitem__(self, k):
        generator = torch.Generator().manual_seed(k)
        values = torch.randn(4, generator=generator)
        return values, int(values.sum() > 0)


class Bench(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, values, labels):
        return {"loss": nn.functional.cross_entropy(self.network(values), labels)}


def collate(rows):
    values, labels = zip(*rows, strict=True)
    return torch.stack(values), torch.tensor(labels)


class Toy:
    """A learner whose validation answers `QUALITIES` in turn, by the step, and notes the weights it saw."""

    def __init__(self, qualities=QUALITIES):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.qualities, self.seen = qualities, {}
        self.learner = Learner(
            "toy", network, Bench(network), Numbers(), collate, 40, ("a", "b"), "accuracy", self.judge
        )

    def judge(self, network):
        assert not network.training
        state = {key: value.clone() for key, value in network.state_dict().items()}
        turn = self.trainer.step // 4 - 1
        self.seen[self.trainer.step] = state
        return {"accuracy": self.qualities[turn]}

    def trainer_in(self, folder, **changes):
        folder.mkdir(exist_ok=True)
        self.trainer = Trainer(self.learner, ScheduleSection(**PLAN | changes), folder)
        return self.trainer


def same(own, other):
    return all(torch.equal(value, other[key]) for key, value in own.items())


def cut_at(monkeypatch, step):
    whole = Trainer._one_step

    def one_step(self, batch):
        if self.step == step:
            raise Cut
        return whole(self, batch)

    monkeypatch.setattr(Trainer, "_one_step", one_step)


@pytest.mark.parametrize(("keep", "step"), [("best", 12), ("last", 20)])
def test_what_is_kept_is_the_first_of_the_best_or_the_last(tmp_path, keep, step):
    toy = Toy()
    trainer = toy.trainer_in(tmp_path, keep=keep)
    row = trainer.run()
    assert row["step"] == 20
    assert same(load_file(tmp_path / "weights.safetensors"), toy.seen[step])
    assert trainer.best.get("step", 20) == step


def test_without_a_validation_the_last_average_is_kept(tmp_path):
    toy = Toy()
    toy.learner.judge = None
    trainer = toy.trainer_in(tmp_path)
    trainer.run()
    assert trainer.best == {}
    assert same(load_file(tmp_path / "weights.safetensors"), trainer.average.module.state_dict())


def test_without_an_average_the_weights_themselves_are_judged(tmp_path):
    toy = Toy()
    trainer = toy.trainer_in(tmp_path, ema_decay=0.0, keep="last")
    trainer.run()
    assert same(load_file(tmp_path / "weights.safetensors"), trainer.learner.network.state_dict())


@pytest.mark.parametrize("at", [1, 3, 11, 12, 13, 17, 19])
@pytest.mark.parametrize("nesterov", [False, True])
def test_cut_off_anywhere_it_goes_on_to_the_same_weights_log_and_best(tmp_path, monkeypatch, at, nesterov):
    """Also where the best was found before the break, and where the network drops at random."""
    Toy().trainer_in(tmp_path / "whole", nesterov=nesterov).run()
    with monkeypatch.context() as patch:
        cut_at(patch, at)
        with pytest.raises(Cut):
            Toy().trainer_in(tmp_path / "broken", nesterov=nesterov).run()
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    trainer = Toy().trainer_in(tmp_path / "broken", nesterov=nesterov)
    trainer.run()
    assert trainer.best["step"] == 12
    for name in ("weights.safetensors", "log.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_training_goes_on_to_itself(tmp_path):
    Toy().trainer_in(tmp_path).run()
    before = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").unlink()
    assert Toy().trainer_in(tmp_path).run()["step"] == 20
    assert (tmp_path / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_follow_one_another_whoever_loads_them(tmp_path, workers):
    Toy().trainer_in(tmp_path / "alone").run()
    Toy().trainer_in(tmp_path / "many", workers=workers).run()
    assert (tmp_path / "many" / "log.csv").read_bytes() == (tmp_path / "alone" / "log.csv").read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", ["picture", "batch"])
def test_a_picture_that_cannot_be_read_is_one_line_whoever_loads_it(tmp_path, workers, at):
    def refuse(*_):
        raise InvalidInput("Expected a readable picture, got `x.png`.")

    toy = Toy()
    if at == "picture":
        toy.learner.pictures = type("Broken", (), {"__getitem__": refuse})()
    else:
        toy.learner.collate = refuse
    with pytest.raises(InvalidInput) as caught:
        toy.trainer_in(tmp_path, workers=workers).run()
    assert str(caught.value) == "Expected a readable picture, got `x.png`."


def test_progress_is_no_result(tmp_path, capsys):
    Toy().trainer_in(tmp_path).run()
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 12: loss" in err
    assert "accuracy 0.9000" in err


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(tmp_path):
    toy, good = Toy(), Bench.forward
    trainer = toy.trainer_in(tmp_path)

    def forward(values, labels):
        losses = good(toy.learner.bench, values, labels)
        return losses if trainer.step < 7 else {"loss": losses["loss"] * float("nan")}

    toy.learner.bench.forward = forward
    with pytest.raises(InvalidInput, match="finite loss, got nan at step 7"):
        trainer.run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 6
    assert all(value.isfinite().all() for value in state["network"].values())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"hello"])
def test_a_damaged_state_is_one_line(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="state of this training") as caught:
        Toy().trainer_in(tmp_path).run()
    assert len(str(caught.value).splitlines()) == 1


def test_a_state_that_wants_to_run_code_is_refused(tmp_path):
    torch.save({"step": print}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="state of this training"):
        load_state(tmp_path / "state.pt", "cpu", lambda state: None)


# --- Weights on disk ---


def test_half_precision_is_for_matrices_of_real_numbers_alone(tmp_path):
    weights = {
        "matrix": torch.rand(3, 4),
        "vector": torch.rand(3),
        "index": torch.tensor([[2049, 70000]]),
        "bn.num_batches_tracked": torch.tensor(3),
    }
    write_weights(tmp_path / "w.safetensors", weights, half=True, classes=("a",))
    found = load_file(tmp_path / "w.safetensors")
    assert {key: value.dtype for key, value in found.items()} == {
        "matrix": torch.float16,
        "vector": torch.float32,
        "index": torch.int64,
    }
    assert found["index"].tolist() == [[2049, 70000]]


def test_weights_that_two_layers_share_are_written_and_load_again(tmp_path):
    def tied():
        network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        network[1].weight = network[0].weight
        return network

    network, again = tied(), tied()
    write_weights(tmp_path / "w.safetensors", network.state_dict(), half=False, classes=("a",))
    load_into(again, load_file(tmp_path / "w.safetensors"), "w")
    assert same(again.state_dict(), network.state_dict())


# --- TensorBoard ---


def events_of(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("at", [None, 7, 12, 13, 17])
def test_the_board_shows_the_log_once_also_after_a_break(tmp_path, monkeypatch, at):
    pytest.importorskip("tensorboard")
    if at is not None:
        with monkeypatch.context() as patch:
            cut_at(patch, at)
            with pytest.raises(Cut):
                Toy().trainer_in(tmp_path, tensorboard=True).run()
    Toy().trainer_in(tmp_path, tensorboard=True).run()
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    shown = events_of(tmp_path)
    assert shown.keys() >= {"loss", "lr", "accuracy"}
    for tag, events in shown.items():
        assert [step for step, _ in events] == [int(row["step"]) for row in rows], tag
        assert [value for _, value in events] == pytest.approx([float(row[tag]) for row in rows], rel=1e-6)


# --- Processes ---


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch_and_leave_no_picture(tmp_path, world):
    plan = ScheduleSection(**PLAN | {"batch_size": 6})

    def pictures(rank, of):
        toy = Toy()
        trainer = Trainer(toy.learner, plan, tmp_path)
        trainer.ranks, trainer.batch_share = Ranks(rank, of, "cpu"), 6 // of
        return [values for values, _ in trainer._batches()]

    whole = pictures(0, 1)
    dealt = [pictures(rank, world) for rank in range(world)]
    for batch, shares in zip(whole, zip(*dealt, strict=True), strict=True):
        together = torch.cat(shares)
        assert sorted(together.tolist()) == sorted(batch.tolist())


def test_a_batch_that_cannot_be_dealt_out_is_one_line():
    assert Ranks(1, 3, "cpu").share(6) == 2
    with pytest.raises(ConfigError, match=r"`schedule\.batch_size` to be a multiple of the 3 .*, got 4"):
        Ranks(0, 3, "cpu").share(4)


def test_synchronised_norms_keep_the_activations_of_timms(monkeypatch):
    import timm

    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda module: module)
    torch.manual_seed(0)
    network = timm.create_model("lcnet_035", num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        shared = Ranks(0, 2, "cuda:0").shared(network)
        torch.testing.assert_close(shared(images), before)
    kinds = [type(module) for module in shared.modules()]
    assert any(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds)
