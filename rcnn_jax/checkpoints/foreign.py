"""Descriptions of foreign files: the original's closed formats and common others.

Sources: docs/reference/tensorrt.md, "Containers of models";
docs/reference/mask_rcnn.md, "Names of model files".
"""

_CLOSED = (
    "The cipher of the original toolkit is closed, so such files cannot be read here. "
    "With the original toolkit, export the weights to .hdf5 and give that file as "
    "pretrained weights, or train anew"
)


def describe(data: bytes, name: str) -> str:
    """Describes a foreign file and what to do with it, in one or two sentences.

    Args:
      data: the beginning of the file, at least 64 bytes where it has them.
      name: of the file; its suffix distinguishes formats that look alike.
    """
    suffix = name.rpartition(".")[2].lower()
    if not data:
        return "it is empty; copy it again"
    if data[:4] == b"PK\x03\x04" and suffix in ("tlt", "etlt", "eff"):
        return f"it is an archive of the original toolkit (zip or EFF). {_CLOSED}"
    if data[:4] == b"PK\x03\x04":
        return "it is a zip archive (.npz, .pth or .keras?); only pretrained weights may be one"
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        return "it is a Keras file (HDF5); only pretrained weights may be one"
    if suffix == "etlt":
        return f"it seems to be an exported model of the original toolkit, encrypted. {_CLOSED}"
    if suffix == "tlt":
        return f"it seems to be a model of the original toolkit, encrypted. {_CLOSED}"
    return "it is not a model file of this project"
