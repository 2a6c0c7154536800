"""A config that notes which of its fields are read, by whoever reads them."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.spec.schema import Message


class Recorder:
    """Reads like a ConfigDict; paths of the fields that were read are in `read`.

    A map counts as read when it is taken, a list of blocks through the fields of its blocks.
    """

    def __init__(self, config: ConfigDict, table: Message, read: set[str], prefix: str = ""):
        self._config = config
        self._table = table
        self._prefix = prefix
        self.read = read

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, name: str) -> Any:
        value = self._config[name]
        field = self._table.find(name)
        if field is None:  # `enabled`, by which a block says that it is there
            return value
        path = f"{self._prefix}{name}"
        self.read.add(path)
        if field.kind != "message":
            return value
        if field.repeated:
            return [Recorder(block, field.table, self.read, f"{path}.") for block in value]
        return Recorder(value, field.table, self.read, f"{path}.")

    def __contains__(self, name: str) -> bool:
        return name in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the field, or the default where the table has none of that name."""
        return self[name] if name in self._config else default
