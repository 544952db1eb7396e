"""Without root: a user namespace in which we are root over network namespaces of our own.

unshare(1) makes a user, a mount and a network namespace; in them /run is a fresh tmpfs, so that network
namespaces can have names there. Nothing of it can be seen from outside, and it is gone with its last
process. See user_namespaces(7).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from softlan.demo.processes import environment, find_tool
from softlan.errors import HostError

TUN = Path("/dev/net/tun")

_UNSHARE = ("--user", "--map-root-user", "--mount", "--net", "--")
_PREPARE = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns && ip link set lo up"


def is_root() -> bool:
    """Tell whether network namespaces can be asked for directly."""
    return os.geteuid() == 0


def check_tun(tun: Path = TUN) -> None:
    """Make sure that a TAP interface can be made at all. Errors: `HostError` that says what to do."""
    if not tun.exists():
        raise HostError("open tun", f"{tun} is missing: as root, `modprobe tun` (in a container, pass the device in)")
    if not os.access(tun, os.R_OK | os.W_OK):
        mode = tun.stat().st_mode & 0o777
        raise HostError(
            "open tun", f"{tun} is closed to us (mode {mode:04o}): run as root, or as root `chmod 666 {tun}`"
        )


def enter(argv: list[str]) -> NoReturn:
    """Become `argv`, run in the namespaces described above. Errors: `HostError` when these are forbidden."""
    unshare = find_tool("unshare")
    trial = subprocess.run(
        [unshare, *_UNSHARE, "sh", "-c", _PREPARE],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if trial.returncode:
        raise HostError(
            "user namespace", f"user namespaces are forbidden here ({_last_line(trial.stderr)}): run as root"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(unshare, [unshare, *_UNSHARE, "sh", "-c", f'{_PREPARE} && exec "$@"', "sh", *argv], environment())


def command_into(pid: int, *argv: str) -> list[str]:
    """Return the command line that runs `argv` in the user, mount and network namespace of a process."""
    return [
        find_tool("nsenter"),
        f"--target={pid}",
        "--user",
        "--mount",
        "--net",
        "--preserve-credentials",
        "--",
        *argv,
    ]


def is_elsewhere(pid: int) -> bool:
    """Tell whether the process `pid` is in another user namespace than we are."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "unshare gave no reason"


def main(argv: list[str]) -> NoReturn:
    """Become `argv`: as it is when we are root, else in a user namespace."""
    try:
        if is_root():
            os.execve(find_tool(argv[0]), argv, environment())
        enter(argv)
    except HostError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
