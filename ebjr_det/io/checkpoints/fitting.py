"""Tensors of a file put into a network: those under the prefix whose remaining names are the network's.

One rule for every wrapping: `state_dict`, `module.`, `model.`, `ema`, `net` and whatever else tools write
are all prefixes of names. The one that fits most of the network's tensors is taken off; what was taken and
what was left is told on stderr where there was a choice. Of two networks one of which is not whole it is not
known which is meant: that is an error, unless the whole one has a name that is the network's own.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebjr_det.core.errors import CheckpointError, first_line

if TYPE_CHECKING:
    import torch

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
        others: prefixes under which as many tensors fit; `left`: names of other tensors of the file.
        rival: a prefix of another network, not less preferred, of which most tensors fit but not as many.
    """

    prefix: str
    state: Mapping[str, "torch.Tensor"]
    near: tuple[str, ...]
    others: tuple[str, ...]
    left: tuple[str, ...]
    rival: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, "torch.Tensor"], wanted: Mapping[str, "torch.Tensor"]) -> "Fit":
        """The prefix that fits most tensors by name, and of such the most by shape."""
        named: Counter[str] = Counter()
        shaped: Counter[str] = Counter()
        for key, tensor in stored.items():
            for name in _ends(key):
                if name in wanted and not name.endswith(UNUSED):
                    prefix = key[: len(key) - len(name)]
                    named[prefix] += 1
                    shaped[prefix] += tensor.shape == wanted[name].shape
        ranked = sorted(named, key=lambda prefix: (-named[prefix], -shaped[prefix], _preference(prefix)))
        best = ranked[0] if ranked else ""
        others = tuple(
            prefix for prefix in ranked[1:] if (named[prefix], shaped[prefix]) == (named[best], shaped[best])
        )
        copies = tuple(prefix for prefix in ranked[1:] if 2 * shaped[prefix] > shaped[best])
        taken = {
            key.removeprefix(best): key
            for key in stored
            if key.startswith(best)
            and "/" not in key.removeprefix(best)
            and not any(key.startswith(copy) for copy in copies if copy.startswith(best))
        }
        near = _nearby(stored, wanted, best, taken)
        state = {name: stored[key] for name, key in (taken | near).items()}
        left = tuple(sorted(stored.keys() - {*taken.values(), *near.values()}, key=list(stored).index))
        rivals = (
            prefix
            for prefix in copies
            if 2 * shaped[prefix] > len(wanted)
            and named[prefix] != named[best]
            and not prefix.startswith(best)
            and not (_is_preferred(best) and _preference(best) < _preference(prefix))
        )
        return cls(best, state, tuple(near), others, left, next(rivals, None))

    def check(self, origin: str) -> None:
        """Raises CheckpointError where it is not known which of two networks is meant."""
        if self.rival is not None:
            raise CheckpointError(
                f"Expected one network in `{origin}`, got two: more tensors fit under "
                f"`{_shown(self.prefix)}`, most under `{_shown(self.rival)}` too. Save the one that is meant "
                "alone."
            )

    def tell(self, origin: str) -> None:
        """On stderr, where there was a choice or tensors of the same dictionary were left."""
        folder = _folder(self.prefix)
        beside = [key.rpartition("/")[2] for key in self.left if _folder(key) == folder]
        told = []
        if self.others:
            others = ", ".join(f"`{_shown(other)}`" for other in self.others[:SHOWN])
            told.append(f"not those under {others}, which fit as well; to take these, save them alone")
        elif beside:
            told.append(f"left {len(beside)} other{'s' * (len(beside) > 1)} ({_few(beside)})")
        if self.near:
            told.append(f"and {len(self.near)} that lack it ({_few(self.near)})")
        if told:
            print(
                f"`{origin}`: took the tensors under `{_shown(self.prefix)}`, {'; '.join(told)}",
                file=sys.stderr,
            )


def _folder(key: str) -> str:
    """The dictionary in which a tensor lies."""
    return key.rpartition("/")[0]


def _ends(key: str) -> Iterator[str]:
    """A tensor's name in its dictionary, and what is left of it behind each of its dots."""
    name = key.rpartition("/")[2]
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _preference(prefix: str) -> tuple[int, ...]:
    """A place for each part of a prefix up to the first that is not known; less is better.

    >>> _preference(""), _preference("state_dict/model."), _preference("ema/module.")
    ((0,), (1, 2, 0), (5,))
    """
    places = []
    for part in re.split("[./]", prefix):  # the last one is empty
        places.append(PREFERRED.index(part) if part in PREFERRED else len(PREFERRED))
        if part not in PREFERRED:
            break
    return tuple(places)


def _is_preferred(prefix: str) -> bool:
    return _preference(prefix)[-1] < len(PREFERRED)


def _nearby(
    stored: Mapping[str, "torch.Tensor"],
    wanted: Mapping[str, "torch.Tensor"],
    prefix: str,
    taken: Mapping[str, str],
) -> dict[str, str]:
    """Names of tensors that are missing under a prefix and there, in the right shape, with less of it."""
    found: dict[str, str] = {}
    folder, slash, wrapping = prefix.rpartition("/")
    parts = wrapping.split(".")[:-1]
    for count in reversed(range(len(parts))):
        shorter = folder + slash + "".join(f"{part}." for part in parts[:count])
        for name, tensor in wanted.items():
            key = shorter + name
            if (
                name not in taken
                and name not in found
                and key in stored
                and stored[key].shape == tensor.shape
            ):
                found[name] = key
    return found


def fits(network: "torch.nn.Module", stored: Mapping[str, "torch.Tensor"]) -> bool:
    """Whether the tensors of a file that are called as the network's also have their shapes."""
    own = network.state_dict()
    state = Fit.of(stored, own).state
    return all(own[key].shape == value.shape for key, value in state.items() if key in own)


def load_into(network: "torch.nn.Module", stored: Mapping[str, "torch.Tensor"], origin: str) -> None:
    """Put the tensors of a file into a network of exactly that architecture and class count.

    Raises:
        CheckpointError: names the first missing, unexpected and wrongly shaped tensors and their number;
            the classifier's shape comes first because a wrong class count is the usual cause.
    """
    own = network.state_dict()
    fit = Fit.of(stored, own)
    fit.check(origin)
    state = fit.state
    missing = [key for key in own if key not in state and not key.endswith(UNUSED)]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in reversed(own)
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        f"{len(names)} {what} ({_few(names)})"
        for what, names in (
            ("of another shape, so another class count or width", misshapen),
            ("missing", missing),
            ("unexpected", unexpected),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"Expected `{origin}` to fit the network, got tensors {'; '.join(faults)}{_seen(fit, stored)}."
        )
    _put(network, {**own, **_checked(state, origin)}, origin)
    fit.tell(origin)


def load_fitting(network: "torch.nn.Module", stored: Mapping[str, "torch.Tensor"], origin: str) -> None:
    """Put in what fits of another network's state; the rest keeps its fresh weights and is named on stderr.

    Raises:
        CheckpointError: not even half of the network's tensors are there.
    """
    own = network.state_dict()
    fit = Fit.of(stored, own)
    fit.check(origin)
    fitting = {key: value for key, value in fit.state.items() if key in own and value.shape == own[key].shape}
    left = [key for key in own if key not in fitting and not key.endswith(UNUSED)]
    if len(left) > len(fitting):
        raise CheckpointError(
            f"Expected weights of a similar network in `{origin}`, got {len(fitting)} tensors that fit, "
            f"{len(left)} missing ({_few(left)}){_seen(fit, stored)}."
        )
    _put(network, {**own, **_checked(fitting, origin)}, origin)
    fit.tell(origin)
    if left:
        print(f"`{origin}` lacks {len(left)} tensors, which start anew: {_few(left)}", file=sys.stderr)


def _put(network: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], origin: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # a type that cannot be converted
        raise CheckpointError(
            f"Expected `{origin}` to hold weights as numbers, got: {first_line(error)}."
        ) from error


def _checked(state: Mapping[str, "torch.Tensor"], origin: str) -> Mapping[str, "torch.Tensor"]:
    """The state itself. Raises CheckpointError for tensors that are not dense, or not finite."""
    for key, tensor in state.items():
        try:
            whole = is_dense(tensor) and (
                not tensor.is_floating_point() or bool(tensor.float().isfinite().all())
            )
        except (RuntimeError, NotImplementedError) as error:  # torch cannot compute with every type it stores
            raise CheckpointError(
                f"Expected tensors of an ordinary type in `{origin}`, got: {first_line(error)}."
            ) from error
        if not whole:
            raise CheckpointError(
                f"Expected dense tensors of finite numbers in `{origin}`, got another kind or NaN in `{key}`."
            )
    return state


def is_dense(value: Any) -> bool:
    """Whether a value is a tensor of plain numbers, every one stored."""
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_nested or value.is_complex() or value.is_quantized)
    )


def _seen(fit: Fit, stored: Mapping[str, "torch.Tensor"]) -> str:
    """What the file has, where its names are not plainly the network's."""
    if not fit.prefix and not fit.left and any(name in fit.state for name in stored):
        return ""
    under = f" under `{fit.prefix}`" if fit.prefix else ""
    heads = Counter(_folder(key) or key.partition(".")[0] for key in stored)
    return f"{under}; the file's tensors are {_few([f'{head} ({count})' for head, count in heads.items()])}"


def _shown(prefix: str) -> str:
    return prefix or "their plain names"


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
