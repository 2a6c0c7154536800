from collections import Counter

from benchmarks.profile import table_of
from benchmarks.stages import BACKWARD, FORWARD


def test_table_has_time_share_and_utilisation_of_every_stage():
    seconds = Counter({("FPN", FORWARD): 0.1, ("FPN", BACKWARD): 0.2, ("optimizer", FORWARD): 0.1})
    flops = Counter({("FPN", FORWARD): 10**11, ("FPN", BACKWARD): 2 * 10**11})
    table = table_of("t", seconds, flops, speed=4e12)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["FPN"] == ("100.00", "200.00", "75.0 %", "300.0", "1.000", "25 %")
    assert rows["optimizer"] == ("100.00", "", "25.0 %", "", "", "")
    assert rows["all"] == ("200.00", "200.00", "", "300.0", "0.750", "19 %")
    assert all(len(row) == len(table.head) for row in table.rows)
