"""For the bed's Windows Python: calls that Wine lacks are found in the bed's stand-ins, under their own DLL's name.

So a program that asks `ctypes.WinDLL` for iphlpapi gets what a whole Windows would have given it, and needs to know
nothing of the bed.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

STAND_INS = Path(sys.prefix).parent / "stand-ins"
DLLS = {"iphlpapi": "ip_helper.dll", "cfgmgr32": "device_manager.dll"}

_WinDLL = ctypes.WinDLL


class WinDLL(_WinDLL):
    """A DLL whose functions are looked for in its stand-in first."""

    def __init__(self, name: str, *arguments: Any, **keywords: Any) -> None:
        super().__init__(name, *arguments, **keywords)
        stand_in = DLLS.get(Path(str(name)).stem.lower())
        self._stand_in = _WinDLL(str(STAND_INS / stand_in), **keywords) if stand_in else None

    def __getitem__(self, name: str | int) -> Any:
        if self._stand_in is not None:
            try:
                return self._stand_in[name]
            except AttributeError:
                pass
        return super().__getitem__(name)


ctypes.WinDLL = WinDLL
