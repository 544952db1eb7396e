"""What needs Windows is shown in the Windows test bed; here, that it says so elsewhere."""

import os
import sys
from pathlib import Path

import pytest

from softlan.errors import HostError
from softlan.host.kernel32 import creation_time, move_through, set_console_handler, system_directory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has it")
UNSUPPORTED = r"^unsupported platform: kernel32\.dll is part of Windows, and this is linux$"


def test_elsewhere_it_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=UNSUPPORTED):
        creation_time(os.getpid())
    with pytest.raises(HostError, match=UNSUPPORTED):
        move_through(tmp_path / "a", tmp_path / "b")
    with pytest.raises(HostError, match=UNSUPPORTED):
        set_console_handler(lambda event: True)
    with pytest.raises(HostError, match=UNSUPPORTED):
        system_directory()
