"""YAML from a stranger: counted while it is composed, aliases as what they stand for, before anything is made of it."""

from typing import Any

import yaml

from mbx_deploy.system.documents import MAX_BYTES, MAX_DEPTH, MAX_WORD, DocumentError, one_line, show

MAX_NODES = 20_000  # each alias counted as what it stands for


def parse_yaml(data: bytes, as_text: bool = False) -> Any:
    """Return the plain values of a YAML text; as_text: every scalar as it is written. Raises DocumentError.

    A key that stands twice is refused, as OmegaConf refuses it.
    """
    if len(data) > MAX_BYTES:
        raise DocumentError(f"it is too large: need at most {MAX_BYTES} bytes")
    try:
        # Both loaders make plain values only.
        return yaml.load(data, Loader=_TextLoader if as_text else _ValueLoader)
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise DocumentError(one_line(error)) from None


class _Bounded(yaml.composer.Composer):  # type: ignore[misc]
    """Counts what a document holds while it is composed, before anything is made of it."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return a node; an alias counts as all that it stands for."""
        sizes: dict[int, int] = self.__dict__.setdefault("sizes", {})
        before, self.nodes, self.depth = self.nodes, self.nodes + 1, self.depth + 1
        if self.depth > MAX_DEPTH:
            raise DocumentError(f"it is nested too deep: need at most {MAX_DEPTH} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        if is_alias:
            if id(node) not in sizes:
                raise DocumentError("an alias in it stands for what it is part of")
            self.nodes += sizes[id(node)]
        else:
            sizes[id(node)] = self.nodes - before
        if self.nodes > MAX_NODES:
            raise DocumentError(f"it holds too much, its aliases spelled out: need at most {MAX_NODES} values")
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping whose keys each stand once."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(set(keys)):
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise DocumentError(f"the key {show(twice)} stands twice")
        return node


class _ValueLoader(_Bounded, yaml.SafeLoader):  # type: ignore[misc]
    pass


class _TextLoader(_Bounded, yaml.BaseLoader):  # type: ignore[misc]
    pass


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    """Return a number of at most MAX_WORD characters; 1:30 is ninety in YAML 1.1."""
    if not isinstance(node.value, str) or len(node.value) > MAX_WORD:
        raise DocumentError(f"a number in it is too long: need at most {MAX_WORD} characters")
    make = loader.construct_yaml_int if node.tag.endswith(":int") else loader.construct_yaml_float
    value: int | float = make(node)
    return value


for _tag in ("int", "float"):
    _ValueLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
