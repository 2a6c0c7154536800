"""HDF5 files of untrusted origin.

A data set in HDF5 may have its numbers in another file of the machine, and a link may lead into one: a
reader would load a file that the author of this one chose. Neither Keras nor this project writes such
references, so a file with any is refused before a number is read.
"""

from typing import Any

from rcnn_jax.checkpoints.archive import largest_content
from rcnn_jax.errors import CheckpointError

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
"""Exceptions of h5py for truncated, changed or forged files."""


def refuse_references(h5py: Any, file: Any, name: str) -> None:
    """Refuses a file with references to other files.

    Args:
      h5py: the package, which is optional.
      file: an open `h5py.File`.
      name: of the file, begins the message.

    Raises:
      CheckpointError: a data set with external storage or a virtual one, or a link that is not to
        an object of the file.
    """
    # visititems passes over links, so the children of every group are looked at below.
    nodes: list[tuple[str, Any]] = [("/", file)]
    file.visititems(lambda path, node: nodes.append((path, node)))
    for path, node in nodes:
        if isinstance(node, h5py.Group):
            for child in node:
                link = node.get(child, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise _elsewhere(name, f"{path}/{child}", f"is a link into {link.filename!r}")
                # What a symbolic link leads to is read by its name and not visited here; no writer
                # of weights makes any.
                if not isinstance(link, h5py.HardLink):
                    raise _elsewhere(name, f"{path}/{child}", "is a symbolic link")
        elif isinstance(node, h5py.Dataset):
            if node.external:
                raise _elsewhere(name, path, f"has its numbers in {node.external[0][0]!r}")
            if node.is_virtual:
                raise _elsewhere(name, path, "is virtual: its numbers are those of other data sets")


def check_sizes(datasets: dict[str, Any], file_bytes: int, name: str) -> None:
    """Refuses data sets that are far larger than their file.

    Args:
      datasets: {path: data set} that will be read.
      file_bytes: length of the file.
      name: of the file, begins the message.

    Raises:
      CheckpointError: they are.
    """
    total = sum(node.size * node.dtype.itemsize for node in datasets.values())
    if total > largest_content(file_bytes):
        raise CheckpointError(
            f"{name}: its data sets unpack from {file_bytes:,} to {total:,} bytes, which weights "
            "never do; it is not read"
        )


def _elsewhere(name: str, path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: {path.replace('//', '/')!r} {what}. Such a file would have other files read; it "
        "is not opened. Save the weights again with all of their numbers inside"
    )
