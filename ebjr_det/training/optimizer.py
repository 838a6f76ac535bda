"""The optimiser and its learning rate at every step, as a training's schedule names them."""

import warnings
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from ebjr_det.config import ScheduleSection

LEAST = 0.01  # of the learning rate: where a cosine starts to warm up, and where it ends
SetRate = Callable[[int], object]


def build_optimizer(network: nn.Module, plan: ScheduleSection) -> Optimizer:
    """AdamW or SGD, by timm; weight decay spares biases and norms unless `decay_norms` asks for all."""
    from timm.optim import create_optimizer_v2

    settings: dict[str, object] = {"opt": "adamw"}
    if plan.optimizer == "sgd":  # timm calls Nesterov's kind `sgd`
        settings = {"opt": "sgd" if plan.nesterov else "momentum", "momentum": plan.momentum}
    settings |= {"lr": plan.lr, "weight_decay": plan.weight_decay, "filter_bias_and_bn": not plan.decay_norms}
    optimizer: Optimizer = create_optimizer_v2(network, **settings)
    return optimizer


def rate_setter(optimizer: Optimizer, plan: ScheduleSection, steps: int) -> SetRate:
    """A function that gives the optimiser its learning rate for a step; it depends on the step alone."""
    from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler

    if plan.policy == "one_cycle":
        return _one_cycle(optimizer, plan, steps)
    least, policy = plan.lr * LEAST, CosineLRScheduler
    settings: dict[str, object] = {"t_initial": steps, "lr_min": least}
    if plan.policy == "step":
        # timm drops the rate one step before the one that it is given
        drops = [round(share * steps) + 1 for share in sorted(plan.milestones)]
        policy, settings = MultiStepLRScheduler, {"decay_t": drops, "decay_rate": plan.factor}
    settings |= {"warmup_t": plan.warmup_steps, "warmup_lr_init": least, "warmup_prefix": False}
    setter: SetRate = policy(optimizer, t_in_epochs=False, **settings).step_update
    return setter


def _one_cycle(optimizer: Optimizer, plan: ScheduleSection, steps: int) -> SetRate:
    """Smith and Topin's one cycle (arXiv 1708.07120), as torch has it; the momentum goes the other way."""
    moves = plan.optimizer == "sgd"
    policy = OneCycleLR(
        optimizer, plan.lr, total_steps=max(steps, 2), pct_start=plan.rise, cycle_momentum=moves
    )

    def set_rate(step: int) -> None:
        policy.last_epoch = step - 1  # its rate is a function of this alone
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimiser has made no step yet, after a break
            policy.step()

    return set_rate
