"""Signals as exceptions, in processes of their own: what a shell and a scheduler see of their end."""

import json
import signal
import subprocess
import sys

import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.interrupt import Stopped, interrupts, resumable, stopped_by
from tests.e2e.kills import signals_as_usual

COMMAND = """
import gc, os, signal, sys, time
from pathlib import Path
from rcnn_jax.cli.main import guarded
from rcnn_jax.cli.session import Session
from rcnn_jax.interrupt import interrupts, leave

def command():
    with Session("test command", status_folder=Path(sys.argv[1])) as session:
        {body}
    return 0

leave(guarded(command))
"""
WAITS = "print('ready', flush=True); time.sleep(600)"


def begin(folder, body, **options):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=body), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"preexec_fn": signals_as_usual, **options},
    )


def last_line(folder):
    return json.loads((folder / "status.json").read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_gives_its_code_one_line_and_a_last_status(tmp_path, number, code):
    process = begin(tmp_path, WAITS)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=300)
    assert process.returncode == code
    text = f"interrupted by {number.name}: the same command starts again"
    assert error == f"error: {text}\n"
    last = last_line(tmp_path)
    assert (last["status"], last["message"]) == ("FAILURE", f"test command was {text}.")


def test_what_keeps_its_work_in_files_says_that_the_command_goes_on():
    with pytest.raises(Stopped) as stop, resumable():
        raise Stopped(signal.SIGTERM)
    assert str(stop.value) == "interrupted by SIGTERM: the same command goes on"


def test_a_signal_that_was_ignored_from_the_beginning_stays_ignored(tmp_path):
    body = "print('ready', flush=True); sys.stdin.readline()"
    process = begin(
        tmp_path,
        body,
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.communicate("\n", timeout=300)
    assert process.returncode == 0
    assert last_line(tmp_path)["status"] == "SUCCESS"


def test_a_signal_whose_exception_python_drops_comes_again(tmp_path):
    body = """
        class Dropped:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(600)
        print('ready', flush=True)
        thing = Dropped()
        del thing
        time.sleep(600)"""
    process = begin(tmp_path, body)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 143
    assert error.startswith("error: interrupted by SIGTERM")


def test_what_c_code_makes_of_a_signal_is_a_signal_all_the_same(tmp_path):
    body = """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
        except BaseException:
            pass
        raise ImportError("numpy.core failed to import")"""
    process = begin(tmp_path, body)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "Traceback" not in error
    assert "interrupted by SIGTERM" in last_line(tmp_path)["message"]


def test_the_end_of_what_was_stopped_waits_for_no_thread(tmp_path):
    body = "import threading; threading.Thread(target=time.sleep, args=(600,)).start(); " + WAITS
    process = begin(tmp_path, body)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=300)
    assert process.returncode == 143


def test_a_closed_pipe_ends_a_command_in_silence(tmp_path):
    process = begin(tmp_path, "while True: session.console.print('a line')")
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=300) == 141
    assert "interrupted by SIGPIPE" in last_line(tmp_path)["message"]


def test_little_output_into_a_closed_pipe_is_silent_too():
    code = "from rcnn_jax.cli.main import main; from rcnn_jax.interrupt import leave; leave(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", f"input(); {code}", "--version"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=300) in (0, 141)


def test_a_signal_after_the_last_line_comes_too_late(tmp_path):
    code = COMMAND.format(body="pass").replace(
        "    return 0", "    os.kill(os.getpid(), signal.SIGTERM); return 0"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=300, check=False)
    assert done.returncode == 0
    assert last_line(tmp_path)["status"] == "SUCCESS"


@pytest.fixture(autouse=True)
def heard_signals():
    """Handlers as a terminal leaves them: of a job in the background a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_postponed_signal_is_noted_and_a_second_one_raises(capfd):
    with interrupts() as signals:
        signals.postponed = True
        signal.raise_signal(signal.SIGTERM)
        assert signals.noted == signal.SIGTERM
        with pytest.raises(Stopped):
            signals.look()
        with pytest.raises(Stopped) as stop:
            signal.raise_signal(signal.SIGINT)
    assert stop.value.exit_code == 143
    # Other threads of the process may write there too.
    assert "\nSIGTERM: saving; a second one ends at once\n" in capfd.readouterr().err


def test_work_that_is_saved_already_can_be_interrupted_at_once():
    with interrupts() as signals:
        signals.postponed = True
        with pytest.raises(Stopped), signals.at_once():
            signal.raise_signal(signal.SIGTERM)
        assert signals.postponed
        with pytest.raises(Stopped), signals.at_once():  # noted before
            raise AssertionError("not reached")


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with interrupts(), interrupts():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_ordinary_errors_are_no_interruptions():
    with interrupts() as signals:
        assert stopped_by(ValueError()) is None
        signals.noted = signal.SIGTERM
        assert stopped_by(DataError("a.png is torn")) is None
        assert stopped_by(ValueError()).exit_code == 143
    assert stopped_by(BrokenPipeError()).exit_code == 141


PROGRAM = """
import os, signal, sys
from rcnn_jax.interrupt import run_program, too_late
def command():
    if {before}:
        os.kill(os.getpid(), signal.SIGTERM)
    too_late()
    os.kill(os.getpid(), signal.SIGTERM)  # the handlers of the command are gone by now
    return 0
run_program(command)
"""


@pytest.mark.parametrize(("before", "code"), [(False, 0), (True, 143)])
def test_a_program_ends_with_the_code_of_its_command_whenever_a_signal_comes(before, code):
    process = subprocess.run([sys.executable, "-c", PROGRAM.format(before=before)], check=False)
    assert process.returncode == code
