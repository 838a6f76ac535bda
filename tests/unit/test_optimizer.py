"""Optimisers and learning rates against torch's own, step by step, also after a break."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR

from ebjr_det.config import ScheduleSection
from ebjr_det.training.optimizer import LEAST, build_optimizer, rate_setter

PLAIN = {"steps": 40, "optimizer": "sgd", "lr": 0.1, "warmup_steps": 0, "weight_decay": 0.01}


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def plan_of(**changes):
    return ScheduleSection(**PLAIN | changes)


def rates(plan, first=0, key="lr"):
    """As the loop asks for them: none is set for step 0."""
    network = small()
    optimizer = build_optimizer(network, plan)
    set_rate = rate_setter(optimizer, plan, plan.steps)
    found = []
    for step in range(first, plan.steps):
        if step:
            set_rate(step)
        assert len({group[key] for group in optimizer.param_groups}) == 1
        found.append(optimizer.param_groups[0][key])
        optimizer.step()
    return found


def torchs(policy, steps, key="lr"):
    optimizer = SGD(small().parameters(), lr=0.1, momentum=0.9)
    scheduler, found = policy(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0][key])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if scheduler.last_epoch + 1 < steps:
                scheduler.step()
    return found


@pytest.mark.parametrize(
    ("shares", "steps", "drops"),
    [([0.5, 0.75], 40, [20, 30]), ([0.75, 0.5], 40, [20, 30]), ([0.33], 7, [2]), ([0.5, 0.5], 40, [20, 20])],
)
def test_steps_fall_at_exactly_the_milestones(shares, steps, drops):
    plan = plan_of(policy="step", milestones=shares, factor=0.1, steps=steps)
    expected = torchs(lambda optimizer: MultiStepLR(optimizer, drops, gamma=0.1), steps)
    assert rates(plan) == pytest.approx(expected, rel=1e-12)


def test_a_cosine_is_torchs_down_to_a_hundredth():
    expected = torchs(lambda optimizer: CosineAnnealingLR(optimizer, 40, eta_min=0.1 * LEAST), 40)
    assert rates(plan_of(policy="cosine")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("policy", ["cosine", "step"])
def test_warming_up_is_linear_from_a_hundredth_and_then_the_policy_is_where_it_would_be(policy):
    warm, cold = rates(plan_of(policy=policy, warmup_steps=8)), rates(plan_of(policy=policy))
    expected = [0.1 * (LEAST + (1 - LEAST) * step / 8) for step in range(8)]
    assert warm[:8] == pytest.approx(expected)
    assert warm[8:] == pytest.approx(cold[8:])


@pytest.mark.parametrize("rise", [0.1, 0.3])
def test_one_cycle_is_torchs_in_rate_and_momentum(rise):
    plan = plan_of(policy="one_cycle", rise=rise)
    for key in ("lr", "momentum"):
        expected = torchs(
            lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=40, pct_start=rise), 40, key
        )
        assert rates(plan, key=key) == pytest.approx(expected, rel=1e-12), key
    assert max(rates(plan)) == pytest.approx(0.1)


def test_one_cycle_of_adamw_leaves_its_averages_alone():
    plan = plan_of(policy="one_cycle", optimizer="adamw")
    assert set(rates(plan, key="betas")) == {(0.9, 0.999)}
    assert rates(plan) == rates(plan_of(policy="one_cycle"))


@pytest.mark.parametrize("policy", ["cosine", "step", "one_cycle"])
@pytest.mark.parametrize("warmup", [0, 8])
def test_rates_after_a_break_are_those_without_one(policy, warmup):
    plan = plan_of(policy=policy, warmup_steps=warmup)
    for key in ("lr", "momentum"):
        whole = rates(plan, key=key)
        for first in (1, 5, 8, 20, 39):
            assert rates(plan, first, key) == whole[first:]


def test_a_training_of_one_step_has_a_rate_under_every_policy():
    for policy in ("cosine", "step", "one_cycle"):
        assert 0 < rates(plan_of(policy=policy, steps=1))[0] <= 0.1


# --- Weights after some steps ---


def stepped(make, groups):
    network = small()
    optimizer = make(groups(network))
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        images, labels = torch.randn(8, 3, 4, 4, generator=generator), torch.arange(8) % 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.state_dict()


def all_alike(network):
    return network.parameters()


def norms_and_biases_spared(network):
    decayed = [value for value in network.parameters() if value.ndim > 1]
    spared = [value for value in network.parameters() if value.ndim <= 1]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({}, lambda groups: SGD(groups, 0.1, momentum=0.9, weight_decay=0.01)),
        ({"momentum": 0.0}, lambda groups: SGD(groups, 0.1, weight_decay=0.01)),
        ({"nesterov": True}, lambda groups: SGD(groups, 0.1, 0.9, weight_decay=0.01, nesterov=True)),
        ({"optimizer": "adamw"}, lambda groups: AdamW(groups, 0.1, weight_decay=0.01)),
    ],
    ids=["momentum", "plain", "nesterov", "adamw"],
)
@pytest.mark.parametrize("decay_norms", [False, True])
def test_weights_are_those_of_torchs_optimiser(changes, reference, decay_norms):
    plan = plan_of(decay_norms=decay_norms, **changes)
    groups = all_alike if decay_norms else norms_and_biases_spared
    expected = stepped(reference, groups)
    network = small()
    assert network[1].weight.ndim == 1
    found = stepped(lambda network: build_optimizer(network, plan), lambda network: network)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=key)
    other = stepped(reference, norms_and_biases_spared if decay_norms else all_alike)
    assert not torch.allclose(found["1.weight"], other["1.weight"], rtol=1e-6, atol=0)


def test_a_state_of_the_optimiser_goes_on_where_it_was():
    plan = plan_of(policy="one_cycle", nesterov=True)
    network = small()
    optimizer = build_optimizer(network, plan)
    set_rate = rate_setter(optimizer, plan, 40)
    set_rate(7)
    state = copy.deepcopy(optimizer.state_dict())
    again = build_optimizer(network, plan)
    rate_setter(again, plan, 40)
    again.load_state_dict(state)
    keys = ("lr", "momentum", "weight_decay", "nesterov")
    for own, other in zip(again.param_groups, optimizer.param_groups, strict=True):
        assert {key: own[key] for key in keys} == {key: other[key] for key in keys}
