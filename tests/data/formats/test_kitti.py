import pytest

from rcnn_jax.data.formats.kitti import KittiObject, read_labels, write_labels
from rcnn_jax.errors import DataError

LINE = "Car 0.25 1 -1.57 10.5 20 110.25 80 1.5 1.6 4.0 -2.0 1.7 9.8 0.01"


def write(tmp_path, text):
    path = tmp_path / "000001.txt"
    path.write_text(text)
    return path


def test_a_line_is_read_column_by_column(tmp_path):
    assert read_labels(write(tmp_path, f"\n{LINE}\n   \n")) == [
        KittiObject(
            class_name="Car",
            truncated=0.25,
            occluded=1,
            alpha=-1.57,
            x1=10.5,
            y1=20.0,
            x2=110.25,
            y2=80.0,
            dimensions=(1.5, 1.6, 4.0),
            location=(-2.0, 1.7, 9.8),
            rotation_y=0.01,
        )
    ]


def test_an_empty_file_is_an_image_without_objects(tmp_path):
    assert read_labels(write(tmp_path, "")) == []


def test_reading_inverts_writing(tmp_path):
    objects = read_labels(write(tmp_path, f"{LINE}\n{LINE}\n"))
    write_labels(tmp_path / "b.txt", objects)
    assert read_labels(tmp_path / "b.txt") == objects


def test_detections_have_sixteen_columns(tmp_path):
    item = KittiObject(class_name="traffic light", x1=1, y1=2.004, x2=3, y2=4, score=0.87654321)
    write_labels(tmp_path / "a.txt", [item])
    zeros = " ".join(["0.00"] * 7)
    expected = f"trafficlight 0.00 0 0.00 1.00 2.00 3.00 4.00 {zeros} 0.8765432\n"
    assert (tmp_path / "a.txt").read_text() == expected


def test_a_prediction_file_is_recognised(tmp_path):
    path = write(tmp_path, f"{LINE}\n{LINE} 0.9\n")
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(caught.value) == (
        f"{path}:2: 16 columns; ground truth has 15. This looks like a file of predictions, whose "
        "last column is the score: remove that column to use it as ground truth."
    )


@pytest.mark.parametrize("score", ["", " 0.9"])
def test_a_blank_in_a_class_name_is_named_as_the_cause(tmp_path, score):
    path = write(tmp_path, f"{LINE.replace('Car', 'traffic light')}{score}\n")
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(caught.value) == (
        f"{path}:1: the class name 'traffic light' has a blank in it, and blanks separate the "
        "columns: write 'traffic_light' or 'trafficlight'."
    )


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + LINE.encode())
    assert read_labels(path)[0].class_name == "Car"


@pytest.mark.parametrize("value", ["1e300", "-3e9"])
def test_values_that_records_cannot_hold_name_the_column(tmp_path, value):
    with pytest.raises(DataError, match="column 7 is .*, which is too large for pixels or metres"):
        read_labels(write(tmp_path, LINE.replace("110.25", value)))


def test_another_number_of_columns_names_file_and_line(tmp_path):
    with pytest.raises(
        DataError, match=r"000001.txt:3: 5 columns; a KITTI label has 15: class trunc"
    ):
        read_labels(write(tmp_path, f"{LINE}\n\nCar 1 2 3 4\n"))


@pytest.mark.parametrize("value", ["nan", "inf", "wide"])
def test_values_that_are_no_finite_numbers_name_the_column(tmp_path, value):
    with pytest.raises(DataError, match=f"000001.txt:1: column 7 is '{value}'; expected a finite"):
        read_labels(write(tmp_path, LINE.replace("110.25", value)))


def test_a_fraction_is_no_state_of_occlusion(tmp_path):
    with pytest.raises(DataError, match=r"column 3 \(occluded\) is '0.5'; expected 0, 1, 2 or 3"):
        read_labels(write(tmp_path, LINE.replace(" 1 ", " 0.5 ")))


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(
        DataError, match="gone.txt: there is no such label file. Every image .* an empty"
    ):
        read_labels(tmp_path / "gone.txt")
    (tmp_path / "image.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="image.txt:1: the label file is not UTF-8 text"):
        read_labels(tmp_path / "image.txt")


def test_real_labels_are_read(shared):
    files = sorted((shared / "data" / "bccd_kitti" / "labels").iterdir())
    objects = [item for path in files for item in read_labels(path)]
    assert len(files) == 364 and len(objects) == 4886
    assert {item.class_name for item in objects} == {"RBC", "WBC", "Platelets"}
