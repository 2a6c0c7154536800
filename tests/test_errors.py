"""The tree of errors: one message each, an exit code each, and no control character of a file."""

import pytest

from rcnn_jax import errors
from rcnn_jax.errors import ExportError, RcnnError, TrainingError, UsageError

CLASSES = [
    item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, RcnnError)
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_what_the_user_can_mend_ends_with_2_and_what_failed_its_check_with_1(error):
    assert error.exit_code == (1 if error in (ExportError, TrainingError) else 2)
    assert issubclass(error, RcnnError) and error.__doc__


def test_a_message_shows_control_characters_of_files_and_obeys_none():
    message = str(UsageError("a\x1b[2Jb\tc"))
    assert "\x1b" not in message and message.startswith("a") and message.endswith("c")


def test_an_error_may_be_without_a_message():
    assert str(RcnnError()) == ""
