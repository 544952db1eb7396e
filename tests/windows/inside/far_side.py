"""A Windows program: the other side of a client, for a test on Linux, which talks to it over stdin and stdout.

It holds the far end of the adapter as Windows' network stack would, pulls plugs, and looks at the host. A line in is a
JSON list, the name of one of `FarSide`'s methods and its arguments. A line out is a JSON list too: ["answer", value] or
["failed", why] for each of those, and ["frame", hex] for each frame that the client gives to Windows.
"""

import contextlib
import ctypes
import ipaddress
import json
import os
import sys
import threading
from typing import Any

from tests.windows.inside.bench import CABLE_GUID, GUID, KEY, STACK, TAP_INDEX, WIFI_GUID, Adapter, End, Host, get_value

from softlan.device.win32 import Win32Kernel
from softlan.host.winapi import AF_INET, AF_INET6, IpHelper, ip_address

_PROCESS_ALL_ACCESS, _PROCESS_QUERY_LIMITED_INFORMATION = 0x1F0FFF, 0x1000


class FarSide:
    """What can be asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kernel32 = _load_kernel32()
        kernel = Win32Kernel()
        self._adapter, self._host, self._api = Adapter(kernel), Host(), IpHelper()
        self._host.reset()
        self._stack = End(kernel, STACK)
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, *frames: str) -> None:
        """Let Windows send these frames."""
        for frame in frames:
            error = self._stack.write(bytes.fromhex(frame))
            assert not error, f"the far end refuses a frame: error {error}"

    def adapter(self) -> dict[str, Any]:
        """The adapter's state."""
        state = self._adapter.state()
        return {"inserted": state.inserted, "opened": state.opened, "media": state.media, "mac": state.mac.hex(":")}

    def remove(self) -> None:
        """Pull the adapter out."""
        self._adapter.remove()

    def insert(self) -> None:
        """Put the adapter in."""
        self._adapter.insert()

    def plug(self, index: int, connected: bool) -> None:
        """Connect an interface to its network, or tear it off."""
        self._host.plug(index, connected)

    def family(self, index: int, family: int, has: bool) -> None:
        """Let an interface have settings for IPv4 or IPv6, or not."""
        self._host.family(index, family, has)

    def lease(self, address: str) -> None:
        """Give the adapter an address, as DHCP does."""
        self._host.address(TAP_INDEX, ipaddress.ip_interface(address))

    def settings(self) -> dict[str, list[int]]:
        """The adapter's MTU, metric, whether that is automatic, and whether default routes are disabled; by family."""
        rows = {"4": self._api.interface(self._api.luid(GUID), AF_INET)}
        rows["6"] = self._api.interface(self._api.luid(GUID), AF_INET6)
        return {
            name: [row.NlMtu, row.Metric, row.UseAutomaticMetric, row.DisableDefaultRoutes]
            for name, row in rows.items()
        }

    def routes(self) -> list[str]:
        """The routes, in words."""
        return [
            f"{ip_address(row.DestinationPrefix.Prefix)}/{row.DestinationPrefix.PrefixLength}"
            f" via {ip_address(row.NextHop)} dev {self._api.alias(row.InterfaceLuid.Value)} metric {row.Metric}"
            for row in (*self._api.routes(AF_INET), *self._api.routes(AF_INET6))
        ]

    def snapshot(self) -> dict[str, Any]:
        """All that a client could have left behind: every row byte for byte, and the adapter's registry values."""
        rows = {}
        for guid in (GUID, CABLE_GUID, WIFI_GUID):
            for family in (AF_INET, AF_INET6):
                with contextlib.suppress(Exception):
                    rows[f"{guid} {family}"] = bytes(self._api.interface(self._api.luid(guid), family)).hex()
        return {
            "interfaces": rows,
            "routes": sorted(bytes(row).hex() for row in (*self._api.routes(AF_INET), *self._api.routes(AF_INET6))),
            "route names": sorted(self.routes()),
            "addresses": sorted(bytes(row).hex() for row in self._api.addresses()),
            "registry": {name: get_value(name, KEY) for name in ("NetworkAddress", "MAC", "NetCfgInstanceId")},
        }

    def client(self) -> int:
        """The process id of the only other Python."""
        pids = (ctypes.c_uint32 * 256)()
        size = ctypes.c_uint32()
        self._kernel32.K32EnumProcesses(pids, ctypes.sizeof(pids), ctypes.byref(size))
        found = [pid for pid in pids[: size.value // 4] if pid != os.getpid() and self._is_python(pid)]
        assert len(found) == 1, f"{len(found)} other Pythons"
        return found[0]

    def console_event(self, pid: int, event: int) -> None:
        """Let a process have a console event, as Windows does it: by a thread in there that begins at CtrlRoutine."""
        kernel32 = self._kernel32
        routine = kernel32.GetProcAddress(kernel32.GetModuleHandleW("kernelbase.dll"), b"CtrlRoutine")
        process = kernel32.OpenProcess(_PROCESS_ALL_ACCESS, False, pid)
        assert process, f"there is no process {pid}: error {ctypes.get_last_error()}"
        thread = kernel32.CreateRemoteThread(process, None, 0, routine, event, 0, None)
        assert thread, f"no thread in process {pid}: error {ctypes.get_last_error()}"
        kernel32.CloseHandle(thread)
        kernel32.CloseHandle(process)

    def _is_python(self, pid: int) -> bool:
        process = self._kernel32.OpenProcess(_PROCESS_QUERY_LIMITED_INFORMATION, False, pid)
        if not process:
            return False
        name, size = ctypes.create_unicode_buffer(1024), ctypes.c_uint32(1024)
        self._kernel32.QueryFullProcessImageNameW(process, 0, name, ctypes.byref(size))
        self._kernel32.CloseHandle(process)
        return name.value.endswith("python.exe")

    def say(self, *message: Any) -> None:
        with self._lock:
            print(json.dumps(message), flush=True)

    def _listen(self) -> None:
        while True:
            try:
                frame = self._stack.read()
            except AssertionError:  # none came for a while
                continue
            self.say("frame", frame.hex())


def _load_kernel32() -> Any:
    """The library, with the types that are wider than a C int."""
    kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)
    handle = ctypes.c_void_p
    for name in ("OpenProcess", "CreateRemoteThread", "GetModuleHandleW", "GetProcAddress"):
        getattr(kernel32, name).restype = handle
    kernel32.CloseHandle.argtypes = (handle,)
    kernel32.GetModuleHandleW.argtypes = (ctypes.c_wchar_p,)
    kernel32.GetProcAddress.argtypes = (handle, ctypes.c_char_p)
    kernel32.QueryFullProcessImageNameW.argtypes = (handle, ctypes.c_uint32, ctypes.c_wchar_p, handle)
    kernel32.CreateRemoteThread.argtypes = (
        *(handle, handle, ctypes.c_size_t, handle, handle),
        *(ctypes.c_uint32, handle),
    )
    return kernel32


def main() -> None:
    side = FarSide()
    side.say("ready")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            side.say("answer", getattr(side, name)(*arguments))
        except Exception as error:
            side.say("failed", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
