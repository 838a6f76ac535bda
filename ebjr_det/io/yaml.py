"""YAML in which nothing is hidden: no aliases, no key twice, and 1e-3 is a number.

Convention: what `FlatDumper` writes, `FlatLoader` reads back. Both are YAML's safe kinds.
"""

import re
from collections.abc import Hashable

import yaml


class FlatLoader(yaml.SafeLoader):
    """YAML without what hides settings: no aliases (which can also grow without bound), no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node; an alias is refused."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "an alias; write the value out",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """A mapping; a key that comes twice is refused."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key `{repeated}` twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


class FlatDumper(yaml.SafeDumper):
    """Writes what `FlatLoader` reads back."""


# YAML 1.1 reads 1e-3 as a word; everybody else, and our users, as a number.
_FLOAT = "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
FlatLoader.add_implicit_resolver(*_FLOAT)
FlatDumper.add_implicit_resolver(*_FLOAT)
