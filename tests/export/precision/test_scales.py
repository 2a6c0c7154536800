import json

import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.export.precision.scales import read_cache, read_json, write_cache, write_json


def test_a_cache_is_the_text_that_tensorrt_reads():
    """1.0 is 3f800000 in IEEE 754, 0.0078125 = 2^-7 is 3c000000; names may hold colons."""
    text = write_cache({"trunk/Relu": 1.0, "a:b": 0.0078125})
    assert text == "TRT-100800-EntropyCalibration2\ntrunk/Relu: 3f800000\na:b: 3c000000\n"


def test_a_cache_reads_back_to_the_last_bit():
    scales = {"x": 0.1, "y": 3.0e-5, "z": 12345.678}
    text = write_cache(scales)
    assert write_cache(read_cache(text)) == text
    assert read_cache(text)["x"] == pytest.approx(0.1, rel=1e-7)


@pytest.mark.parametrize(
    "header", ["TRT-8501-EntropyCalibration2", "TRT-7201-MinMaxCalibration", "1"]
)
def test_caches_of_other_writers_are_read(header):
    """By TensorRT: no zero padding, sometimes upper case, unnamed layers."""
    text = f"{header}\ninput_image: 3C010204\n(Unnamed Layer* 5) [Convolution]_output: 3f800000\n"
    scales = read_cache(text)
    assert scales["input_image"] == pytest.approx(1 / 127, rel=1e-6)
    assert scales["(Unnamed Layer* 5) [Convolution]_output"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is nothing"),
        ("conv: 3f800000\n", "line 1 is 'conv: 3f800000', expected TRT-"),
        ("TRT-8501-EntropyCalibration2\n", "holds no scale"),
        ("TRT-8501-EntropyCalibration2\nconv 3f800000\n", "line 2: expected 'tensor: hex"),
        ("TRT-8501-EntropyCalibration2\nconv: xyz\n", "line 2: expected 'tensor: hex"),
        ("TRT-8501-EntropyCalibration2\nconv: 3f8000000\n", "line 2: expected 'tensor: hex"),
        ("TRT-8501-EntropyCalibration2\n\nconv: 0\n", "line 3: the scale of 'conv' is 0.0"),
        ("TRT-8501-EntropyCalibration2\nconv: 7fc00000\n", "the scale of 'conv' is nan"),
        ("TRT-8501-EntropyCalibration2\nconv: bf800000\n", "the scale of 'conv' is -1.0"),
    ],
)
def test_what_is_no_cache_is_one_message(text, message):
    with pytest.raises(DataError) as error:
        read_cache(text, "cal.bin")
    assert str(error.value).startswith("cal.bin: ") and message in str(error.value)


def test_the_json_holds_the_largest_values():
    assert json.loads(write_json({"x": 0.5})) == {"tensor_scales": {"x": 63.5}}


@pytest.mark.parametrize("value", ["1" + "0" * 400, '"six"', "-1.0", "NaN"])
def test_a_value_that_is_no_positive_number_is_one_message(value):
    with pytest.raises(DataError, match=r"^scales\.json: "):
        read_json(f'{{"tensor_scales": {{"conv": {value}}}}}', "scales.json")
