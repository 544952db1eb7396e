"""The command line is always the same; whatever varies is in the environment."""

import subprocess
import sys
from collections.abc import Mapping

import pytest

from softlan.errors import HostError
from softlan.host.powershell import Done, PowerShell, run_process

SYSTEM = r"C:\Windows\System32"
PROGRAM = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
PROLOGUE = (
    r"$ErrorActionPreference = 'Stop'; $env:PSModulePath = $PSHOME + '\Modules'; "
    "[Console]::OutputEncoding = [Text.Encoding]::UTF8; "
)


class FakeRunner:
    """A `Runner` that writes down what it runs, and answers as told."""

    def __init__(self, answer: Done | Exception) -> None:
        self.answer = answer
        self.ran: list[tuple[list[str], dict[str, str]]] = []

    def __call__(self, argv: list[str], variables: Mapping[str, str]) -> Done:
        self.ran.append((argv, dict(variables)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_command_line() -> None:
    runner = FakeRunner(Done(0, "out", ""))
    evil = "'; Remove-Item C:\\ -Recurse; '"
    assert PowerShell(runner, SYSTEM).run("Get-It $env:NAME", NAME=evil) == "out"
    argv = [PROGRAM, "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", PROLOGUE + "Get-It $env:NAME"]
    assert runner.ran == [(argv, {"NAME": evil})]


def test_json() -> None:
    assert PowerShell(FakeRunner(Done(0, '{"a": [1]}\r\n', "")), SYSTEM).ask("x") == {"a": [1]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Done(1, "", "New-NetFirewallRule : Access is denied.\r\nAt line:1\r\n"),
            "refused: New-NetFirewallRule : Access",
        ),
        (Done(5, "", ""), "refused: status 5"),
        (FileNotFoundError(2, "No such file"), "cannot ask PowerShell"),
        (subprocess.TimeoutExpired("powershell", 60), "cannot ask PowerShell"),
        (ValueError("embedded null character"), "cannot ask PowerShell"),
        (Done(0, "no JSON", ""), "do not understand: 'no JSON'"),
        (Done(0, "", ""), "do not understand"),
    ],
)
def test_failures_are_one_line(answer: Done | Exception, words: str) -> None:
    with pytest.raises(HostError) as caught:
        PowerShell(FakeRunner(answer), SYSTEM).ask("x")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there is a PowerShell on Windows")
def test_elsewhere_than_on_windows() -> None:
    with pytest.raises(HostError, match="unsupported platform"):
        run_process(["powershell"], {})
    with pytest.raises(HostError, match="unsupported platform"):
        PowerShell().run("x")
