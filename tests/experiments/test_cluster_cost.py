"""The calculator of docs/cluster.md: weak scaling on paper."""

from argparse import Namespace

import pytest

from experiments import cluster_cost

MEASURED = Namespace(
    step_ms=62.0, reduced_mb=100.0, link_gbit=400.0, inside_gbit=3600.0, per_node=8, latency_us=20.0
)


def test_a_step_takes_its_own_time_the_ring_and_the_messages():
    assert cluster_cost.step_ms(MEASURED, 1) == 62.0
    # Two in a machine: 2 * 1/2 * 100 MB at 3600 Gbit/s, and two messages.
    assert cluster_cost.step_ms(MEASURED, 2) == pytest.approx(62.0 + 800 / 3600 + 0.04)
    # Sixteen over two machines: by the slower link.
    assert cluster_cost.step_ms(MEASURED, 16) == pytest.approx(62.0 + 1.875 * 800 / 400 + 0.16)


def test_the_table_ends_at_1024_gpus(monkeypatch, capsys):
    flags = "--step-ms 62 --images 8 --reduced-mb 177 --link-gbit 400"
    monkeypatch.setattr("sys.argv", ["cluster_cost", *flags.split()])
    cluster_cost.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [int(row[0]) for row in rows] == [2**power for power in range(11)]
    efficiency = [float(row[3].strip(" %")) for row in rows]
    assert efficiency[0] == 100 and efficiency == sorted(efficiency, reverse=True)
