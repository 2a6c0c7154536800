"""Times of operations are read from a trace, their names from the text of a program."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks.trace import names_of_operations, read_events, seconds_by_operation


def event(name, begin, length, tid=1):
    return {"ph": "X", "pid": 1, "tid": tid, "ts": begin, "dur": length, "args": {"hlo_op": name}}


def thread(name, tid):
    return {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}


def test_times_of_an_operation_add_up_over_threads():
    events = [event("dot", 0, 4e6), event("dot", 5e6, 1e6), event("dot", 0, 2e6, tid=2)]
    assert seconds_by_operation(events) == {"dot": 7.0}


def test_what_an_operation_contains_is_not_its_own_time():
    events = [event("sort", 0, 10e6), event("add", 1e6, 2e6), event("mul", 4e6, 3e6)]
    assert seconds_by_operation(events) == {"sort": 5.0, "add": 2.0, "mul": 3.0}


def test_kernels_that_overlap_a_little_keep_their_times():
    events = [event("short", 0, 2e6), event("long", 1.9e6, 9e6), event("next", 10.8e6, 1e6)]
    assert seconds_by_operation(events) == {"short": 2.0, "long": 9.0, "next": 1.0}


def test_loops_and_conditions_only_contain():
    events = [event("while.3", 0, 10e6), event("conditional.1", 1e6, 5e6), event("add", 2e6, 2e6)]
    assert seconds_by_operation(events) == {"add": 2.0}


def test_line_of_operations_of_an_accelerator_counts_once():
    events = [thread("XLA Ops", 1), thread("Stream #5", 2)]
    events += [event("dot", 0, 4e6, tid=1), event("dot", 0, 4e6, tid=2)]
    assert seconds_by_operation(events) == {"dot": 4.0}


def test_events_that_are_no_operations_are_left_out():
    events = [{"ph": "X", "pid": 1, "tid": 1, "ts": 0, "dur": 9, "args": {}}, thread("main", 1)]
    assert seconds_by_operation(events) == {}


def test_operations_of_a_compiled_program_have_jax_names():
    def function(a, b):
        with jax.named_scope("stage(propose)"):
            product = a @ b
        with jax.named_scope("stage(update)"):
            return jnp.tanh(product) + 1.0

    square = jnp.ones((8, 8))
    names = names_of_operations(jax.jit(function).lower(square, square).compile().as_text())
    assert any("stage(propose)" in name and name.endswith("dot_general") for name in names.values())
    assert any("stage(update)" in name for name in names.values())


def test_operation_without_a_name_has_the_commonest_of_what_it_calls():
    program = """HloModule m
%fused (p: f32[2]) -> f32[2] {
  %p = f32[2] parameter(0)
  %a = f32[2] add(%p, %p), metadata={op_name="jit(f)/rare"}
  %b = f32[2] add(%a, %p), metadata={op_name="jit(f)/common"}
  ROOT %c = f32[2] add(%b, %p), metadata={op_name="jit(f)/common"}
}
ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2] parameter(0)
  ROOT %ynn_fusion.1 = f32[2] fusion(%x), kind=kCustom, calls=%fused
}
"""
    assert names_of_operations(program)["ynn_fusion.1"] == "jit(f)/common"


def test_newest_trace_below_the_folder_is_read(tmp_path):
    for number in (1, 2):
        folder = tmp_path / "plugins" / "profile" / f"2026_0{number}"
        folder.mkdir(parents=True)
        with gzip.open(folder / "vm.trace.json.gz", "wt") as file:
            json.dump({"traceEvents": [number]}, file)
    assert read_events(tmp_path) == [2]
    with pytest.raises(FileNotFoundError, match="left no trace"):
        read_events(tmp_path / "plugins" / "profile" / "none")
