import pytest

from rcnn_jax.checkpoints.foreign import describe


@pytest.mark.parametrize(
    ("data", "name", "beginning"),
    [
        (b"", "m.tlt", "it is empty; copy it again"),
        (b"PK\x03\x04abc", "m.tlt", "it is an archive of the original toolkit (zip or EFF). The"),
        (b"PK\x03\x04abc", "w.npz", "it is a zip archive (.npz, .pth or .keras?); only pretrained"),
        (b"\x89HDF\r\n\x1a\n", "m.hdf5", "it is a Keras file (HDF5); only pretrained weights"),
        (b"\x00\x00\x00\x00\x8fq", "m.etlt", "it seems to be an exported model of the original"),
        (b"\x9c\xe1\x07", "m.tlt", "it seems to be a model of the original toolkit, encrypted."),
        (b"hello", "notes.txt", "it is not a model file of this project"),
    ],
)
def test_a_file_is_described_by_its_content_and_suffix(data, name, beginning):
    assert describe(data, name).startswith(beginning)


@pytest.mark.parametrize("name", ["m.tlt", "m.etlt"])
def test_closed_formats_come_with_a_way_out(name):
    assert "export the weights to .hdf5 and give that file as pretrained" in describe(b"\x9c", name)
