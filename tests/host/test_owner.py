import os
import signal
import subprocess
import sys
from dataclasses import replace

from softlan.host.owner import Owner, this_process


def test_this_process_is_alive() -> None:
    owner = this_process()
    assert owner.pid == os.getpid()
    assert owner == this_process()
    assert owner.is_of_this_boot()
    assert owner.is_alive()


def test_a_later_process_with_the_same_number_is_another() -> None:
    owner = this_process()
    assert not replace(owner, started=owner.started - 1).is_alive()


def test_nothing_lives_through_a_reboot() -> None:
    owner = replace(this_process(), boot="00000000-0000-0000-0000-000000000000")
    assert not owner.is_of_this_boot()
    assert not owner.is_alive()


def test_a_killed_process_is_dead_even_before_its_parent_knows() -> None:
    program = "from softlan.host.owner import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        owner = eval(child.stdout.readline(), {"Owner": Owner})
        assert owner.pid == child.pid
        assert owner.is_alive()
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie until Popen collects it
        assert not owner.is_alive()
    assert not owner.is_alive()
