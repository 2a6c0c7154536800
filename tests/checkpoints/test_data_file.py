import json

from rcnn_jax.checkpoints.data_file import NAME, changes, write_data
from rcnn_jax.data.sources.digest import DataDigest, ImageDigest

OLD = DataDigest(("cat",), None, (("a.png", ImageDigest(5, "1f")), ("b.png", ImageDigest(6, "2f"))))
NEW = DataDigest(("cat",), None, OLD.images[:1])


def test_the_same_data_has_no_changes_whatever_the_file_holds(tmp_path):
    assert changes(OLD.summary(), OLD, tmp_path) == []


def test_changes_are_listed_from_the_file(tmp_path):
    write_data(tmp_path, OLD)
    assert changes(OLD.summary(), NEW, tmp_path) == ["1 image removed: b.png"]


def test_a_file_that_is_missing_damaged_or_of_other_data_leaves_a_count(tmp_path):
    expected = [
        f"2 images then, 1 now; which of them differ is not known, since {tmp_path / NAME} is "
        "missing or of other data"
    ]
    assert changes(OLD.summary(), NEW, tmp_path) == expected
    for text in ("", "[]", '{"version": 1}', "\x00", json.dumps(NEW.to_json())):
        (tmp_path / NAME).write_text(text)
        assert changes(OLD.summary(), NEW, tmp_path) == expected


def test_another_version_of_the_digest_cannot_be_compared(tmp_path):
    assert changes({**OLD.summary(), "version": 0}, NEW, tmp_path) == []


def test_names_of_any_bytes_are_kept(tmp_path):
    odd = DataDigest(("cat",), None, (("a\udcff.png", ImageDigest(5, "1f")),))
    write_data(tmp_path, odd)
    assert changes(odd.summary(), OLD, tmp_path)[0].startswith("1 image added: b.png")
