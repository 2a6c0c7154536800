import pytest

from rcnn_jax.data.conversion.staging import StagedFiles, require_free_space
from rcnn_jax.errors import DataError


def test_files_appear_together_at_the_end(tmp_path):
    finals = [tmp_path / "new" / name for name in ("a", "b")]
    with StagedFiles() as staged:
        for final in finals:
            staged.path(final).write_text(final.name)
        assert not list(tmp_path.glob("new/[ab]*"))
    assert [final.read_text() for final in finals] == ["a", "b"]
    assert len(list((tmp_path / "new").iterdir())) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error_and_old_files_stay(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), StagedFiles() as staged:
        staged.path(tmp_path / "a").write_text("new")
        staged.path(tmp_path / "never written")
        raise error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out: cannot create this folder: File exists"):
        StagedFiles().path(tmp_path / "out" / "a")


def test_a_full_disk_is_noticed_before_writing(tmp_path):
    require_free_space(tmp_path, 1)
    with pytest.raises(
        DataError,
        match=r"about 1,000,000,000,000,000,000 bytes are needed, [\d,]+ are free on its disk",
    ):
        require_free_space(tmp_path, 10**18)
