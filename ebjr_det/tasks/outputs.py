"""What the outputs of somebody's trained network are called: as its file tells, or as the user says."""

from collections.abc import Mapping, Sequence

from ebjr_det.core.errors import ConfigError, check_known


def output_names(
    names: Sequence[str] | None, stated: Sequence[str] | Mapping[str, str] | None, outputs: int, label: str
) -> list[str] | None:
    """Names of a network's classes, in order.

    Args:
        names: as its file tells them. stated: setting `class_names`, all names in order, or for some of the
            file's names those of the data. outputs: how many classes the network tells apart.

    Returns:
        None where neither tells.

    Raises:
        ConfigError: another number of names than outputs, or a name to be replaced that the file has not.

    >>> output_names(["cat", "auto"], {"auto": "car"}, 2, "a.onnx")
    ['cat', 'car']
    """
    if isinstance(stated, Mapping):
        for name in stated:
            check_known(name, names or (), f"a class that `{label}` names, in `class_names`")
        names = [stated.get(name, name) for name in names or ()]
    elif stated is not None:
        names = list(stated)
    if names is not None and len(names) != outputs:
        raise ConfigError(
            f"Expected {outputs} names, one a class that `{label}` tells apart, got {len(names)}. Set "
            "`class_names`."
        )
    return None if names is None else list(names)
