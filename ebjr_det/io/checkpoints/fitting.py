"""Tensors of a file put into a network: those under the prefix whose remaining names are the network's.

One rule for every wrapping: `state_dict`, `module.`, `model.`, `ema`, `net` and whatever else tools write
are all prefixes of names. The one that fits most of the network's tensors is taken off; what was taken and
what was left is told on stderr where there was a choice. Of two networks one of which is not whole it is not
known which is meant: that is an error, unless the whole one has a name that is the network's own.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ebjr_det.core.errors import CheckpointError, first_line, listed
from ebjr_det.io.notes import say

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = Mapping[str, "torch.Tensor"]
UNUSED = "num_batches_tracked"  # old checkpoints have no such counter, and inference needs none
PREFERRED = ("", "state_dict", "model", "model_state", "module")
"""Parts of prefixes. Of several that fit as well, the one of the first; then as the file has them."""
SHOWN = 3


@dataclass(frozen=True)
class Fit:
    """Tensors of a file under the names of a network.

    Attributes:
        prefix: of the names in the file; `state`: the tensors under it, their names without it.
        near: names of tensors that lack the prefix, or a part of it, where all others have it.
        equals: prefixes under which as many tensors fit; `left`: names of other tensors of the file.
        rival: a prefix of another network, not less preferred, of which most tensors fit but not as many.
    """

    prefix: str
    state: Tensors
    near: tuple[str, ...]
    equals: tuple[str, ...]
    left: tuple[str, ...]
    rival: str | None = None

    @classmethod
    def of(cls, stored: Tensors, network: Tensors) -> "Fit":
        """The prefix that fits most tensors by name, and of such the most by shape."""
        named: Counter[str] = Counter()
        shaped: Counter[str] = Counter()
        for key, tensor in stored.items():
            for name in _endings(key):
                if name in network and not name.endswith(UNUSED):
                    prefix = key.removesuffix(name)
                    named[prefix] += 1
                    shaped[prefix] += tensor.shape == network[name].shape
        ranked = sorted(named, key=lambda prefix: (-named[prefix], -shaped[prefix], _preference(prefix)))
        best, *losers = ranked or [""]
        equals = [loser for loser in losers if (named[loser], shaped[loser]) == (named[best], shaped[best])]
        copies = [loser for loser in losers if 2 * shaped[loser] > shaped[best]]
        inside = tuple(copy for copy in copies if copy.startswith(best))  # networks within the chosen one
        keys = {
            key.removeprefix(best): key
            for key in stored
            if key.startswith(best) and "/" not in key.removeprefix(best) and not key.startswith(inside)
        }
        near = _nearby(stored, network, best, keys)
        keys |= near
        rivals = (
            copy
            for copy in copies
            if 2 * shaped[copy] > len(network)
            and named[copy] != named[best]
            and copy not in inside
            and not (_is_preferred(best) and _preference(best) < _preference(copy))
        )
        used = set(keys.values())
        return cls(
            best,
            {name: stored[key] for name, key in keys.items()},
            tuple(near),
            tuple(equals),
            tuple(key for key in stored if key not in used),
            next(rivals, None),
        )

    def check(self, origin: str) -> None:
        """Raises CheckpointError where it is not known which of two networks is meant."""
        if self.rival is not None:
            raise CheckpointError(
                f"Expected one network in `{origin}`, got two: more tensors fit under "
                f"`{_shown(self.prefix)}`, most under `{_shown(self.rival)}` too. Save the one that is meant "
                "alone."
            )

    def tell(self, origin: str) -> None:
        """Say on stderr what was taken, where there was a choice or tensors of its dictionary were left."""
        left = [key.rpartition("/")[2] for key in self.left if _folder(key) == _folder(self.prefix)]
        notes = []
        if self.equals:
            prefixes = ", ".join(f"`{_shown(prefix)}`" for prefix in self.equals[:SHOWN])
            notes.append(f"not those under {prefixes}, which fit as well; to take these, save them alone")
        elif left:
            notes.append(f"left {len(left)} other{'s' * (len(left) > 1)} ({listed(left, SHOWN)})")
        if self.near:
            notes.append(f"and {len(self.near)} that lack it ({listed(self.near, SHOWN)})")
        if notes:
            say(f"`{origin}`: took the tensors under `{_shown(self.prefix)}`, {'; '.join(notes)}")


def _folder(key: str) -> str:
    """The dictionary in which a tensor lies."""
    return key.rpartition("/")[0]


def _endings(key: str) -> Iterator[str]:
    """A tensor's name in its dictionary, and what is left of it behind each of its dots."""
    name = key.rpartition("/")[2]
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _preference(prefix: str) -> tuple[int, ...]:
    """A rank for each part of a prefix up to the first that is not known; less is better.

    >>> _preference(""), _preference("state_dict/model."), _preference("ema/module.")
    ((0,), (1, 2, 0), (5,))
    """
    ranks = []
    for part in re.split("[./]", prefix):  # the last one is empty
        ranks.append(PREFERRED.index(part) if part in PREFERRED else len(PREFERRED))
        if part not in PREFERRED:
            break
    return tuple(ranks)


def _is_preferred(prefix: str) -> bool:
    return _preference(prefix)[-1] < len(PREFERRED)


def _nearby(stored: Tensors, network: Tensors, prefix: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Names and keys of tensors that `keys` lacks, stored in the right shape with less of the prefix."""
    near: dict[str, str] = {}
    folder, slash, wrapping = prefix.rpartition("/")
    parts = wrapping.split(".")[:-1]
    for count in reversed(range(len(parts))):
        shorter = folder + slash + "".join(f"{part}." for part in parts[:count])
        for name in network:
            key = shorter + name
            lacking = name not in keys and name not in near
            if lacking and key in stored and stored[key].shape == network[name].shape:
                near[name] = key
    return near


def fits(network: "torch.nn.Module", stored: Tensors) -> bool:
    """Whether the tensors of a file that are called as the network's also have their shapes."""
    state = network.state_dict()
    fit = Fit.of(stored, state)
    return all(state[key].shape == value.shape for key, value in fit.state.items() if key in state)


def load_into(network: "torch.nn.Module", stored: Tensors, origin: str) -> None:
    """Put the tensors of a file into a network of exactly that architecture and class count.

    Raises:
        CheckpointError: names the first missing, unexpected and wrongly shaped tensors and their number;
            the classifier's shape comes first because a wrong class count is the usual cause.
    """
    state = network.state_dict()
    fit = Fit.of(stored, state)
    fit.check(origin)
    misshapen = [
        f"{key} {list(fit.state[key].shape)} instead of {list(state[key].shape)}"
        for key in reversed(state)
        if key in fit.state and fit.state[key].shape != state[key].shape
    ]
    groups = {
        "of another shape, so another class count or width": misshapen,
        "missing": [key for key in state if key not in fit.state and not key.endswith(UNUSED)],
        "unexpected": [key for key in fit.state if key not in state],
    }
    faults = [f"{len(names)} {fault} ({listed(names, SHOWN)})" for fault, names in groups.items() if names]
    if faults:
        raise CheckpointError(
            f"Expected `{origin}` to fit the network, got tensors {'; '.join(faults)}{_seen(fit, stored)}."
        )
    _put(network, fit.state, origin)
    fit.tell(origin)


def load_fitting(network: "torch.nn.Module", stored: Tensors, origin: str) -> None:
    """Put in what fits of another network's state; other tensors stay fresh and are named on stderr.

    Raises:
        CheckpointError: not even half of the network's tensors are there.
    """
    state = network.state_dict()
    fit = Fit.of(stored, state)
    fit.check(origin)
    fitting = {
        key: value for key, value in fit.state.items() if key in state and value.shape == state[key].shape
    }
    left = [key for key in state if key not in fitting and not key.endswith(UNUSED)]
    if len(left) > len(fitting):
        raise CheckpointError(
            f"Expected weights of a similar network in `{origin}`, got {len(fitting)} tensors that fit, "
            f"{len(left)} missing ({listed(left, SHOWN)}){_seen(fit, stored)}."
        )
    _put(network, fitting, origin)
    fit.tell(origin)
    if left:
        say(f"`{origin}` lacks {len(left)} tensors, which start anew: {listed(left, SHOWN)}")


def _put(network: "torch.nn.Module", state: Tensors, origin: str) -> None:
    """Raises CheckpointError for tensors that are not dense, not finite, or of a type without numbers."""
    for key, tensor in state.items():
        try:
            sound = is_dense(tensor) and (
                not tensor.is_floating_point() or bool(tensor.float().isfinite().all())
            )
        except (RuntimeError, NotImplementedError) as error:  # torch cannot compute with every type it stores
            raise CheckpointError(
                f"Expected tensors of an ordinary type in `{origin}`, got: {first_line(error)}."
            ) from error
        if not sound:
            raise CheckpointError(
                f"Expected dense tensors of finite numbers in `{origin}`, got another kind or NaN in `{key}`."
            )
    try:
        network.load_state_dict({**network.state_dict(), **state})
    except RuntimeError as error:  # a type that cannot be converted
        raise CheckpointError(
            f"Expected `{origin}` to hold weights as numbers, got: {first_line(error)}."
        ) from error


def is_dense(value: object) -> bool:
    """Whether a value is a tensor of plain numbers, every one stored."""
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_nested or value.is_complex() or value.is_quantized)
    )


def _seen(fit: Fit, stored: Tensors) -> str:
    """The names that a file has, where they are not plainly the network's."""
    if not fit.prefix and not fit.left and any(name in fit.state for name in stored):
        return ""
    under = f" under `{fit.prefix}`" if fit.prefix else ""
    heads = Counter(_folder(key) or key.partition(".")[0] for key in stored)
    counts = [f"{head} ({count})" for head, count in heads.items()]
    return f"{under}; the file's tensors are {listed(counts, SHOWN)}"


def _shown(prefix: str) -> str:
    return prefix or "their plain names"
