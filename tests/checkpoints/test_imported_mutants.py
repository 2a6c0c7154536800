"""Made-up pickles and configs of detectron2: refused or read, whatever they claim."""

import pytest

from tests.checkpoints.config_mutants import CONFIGS
from tests.checkpoints.pickle_mutants import PICKLES
from tests.fuzz.outcome import failures


@pytest.mark.parametrize("target", [PICKLES, CONFIGS], ids=lambda target: target.name)
def test_what_a_stranger_made_up_is_refused_or_read(target, tmp_path):
    assert failures(target, 1, 60, tmp_path) == []
