"""No secret gets out: not in logs, however detailed, not in a crash, not in a file or a list of processes.

The real programs run with everything logged; then faults are put into them, from a script around them, at places where
secrets are at hand. All that they have said and written is searched for each secret, in every form that a program may
print one in.
"""

import base64
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.party import AMPLE, answers, event, lan_party

from softlan.client.invitation import parse
from softlan.demo import topology
from softlan.demo.netns import Namespace
from softlan.demo.processes import Process, wait_for
from softlan.demo.services import TAP, Services

pytestmark = pytest.mark.netns

ALL = ("--log-level", "debug", "--frame-log", "all")

WITH_A_FAULT = """
import importlib, sys
module, _, names = sys.argv[1].partition(":")
owner, name = importlib.import_module(module), names
if "." in names:
    owner, name = getattr(owner, names.partition(".")[0]), names.partition(".")[2]
original = getattr(owner, name)
def faulty(*arguments, **named):
    original(*arguments, **named)
    raise RuntimeError("a fault was put here")
setattr(owner, name, faulty)
from softlan.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


@dataclass
class Searched:
    """A party of which every byte is searched in the end."""

    services: Services
    invitation: Path
    secrets: dict[str, bytes]

    def add_resume_strings(self) -> None:
        """What the endpoints keep on the disk to be let in again."""
        for role in ("gateway", "client"):
            for file in (self.services.directory / role).glob("resume-*"):
                self.secrets[f"resume string of the {role}, {file.name}"] = file.read_bytes()

    def with_a_fault(self, where: str, name: str, namespace: Namespace, *arguments: str) -> Process:
        """Start softlan with a function in it that raises after its work is done."""
        state = ("--state-dir", str(self.services.directory / name), *ALL)
        argv = (sys.executable, "-c", WITH_A_FAULT, where, name, *arguments, *state)
        return self.services.start(f"{name}-{where.rpartition(':')[2]}", namespace, *argv)

    def found(self) -> list[str]:
        """Where a secret is, and in which form."""
        leaks = []
        for path in sorted(self.services.directory.rglob("*")):
            kept_there = path == self.invitation or path.name.startswith(("resume-", "dev-key"))
            if path.is_file() and not kept_there:
                leaks += [f"{path.name}: {leak}" for leak in self.leaks(path.read_bytes())]
        return leaks

    def leaks(self, data: bytes) -> list[str]:
        return [
            f"{name} as {form}"
            for name, secret in self.secrets.items()
            for form, text in forms(secret).items()
            if text in data
        ]


def forms(secret: bytes) -> dict[str, bytes]:
    """A secret as programs may print it."""
    return {
        "it is": secret,
        "Python prints it": repr(secret)[2:-1].encode(),
        "JSON prints it": repr(secret)[2:-1].replace("\\", "\\\\").encode(),
        "hex": secret.hex().encode(),
        "capital hex": secret.hex().upper().encode(),
        "hex with colons": secret.hex(":").encode(),
        "base64": base64.b64encode(secret).rstrip(b"="),
        "base64url": base64.urlsafe_b64encode(secret).rstrip(b"="),
        "numbers": ", ".join(map(str, secret)).encode(),
    }


@pytest.fixture
def searched(swept: None, tmp_path: Path) -> Iterator[Searched]:
    with lan_party(tmp_path) as services:
        services.relay(*ALL)
        path = services.invite()
        text = path.read_text().strip()
        invitation = parse(text)
        keys = invitation.keys()
        assert keys is not None
        assert invitation.secret is not None
        secrets = {
            "invitation": text.encode(),
            "room secret": invitation.secret,
            "join token": keys.token.encode(),
            "bytes of the join token": base64.urlsafe_b64decode(keys.token + "="),
            "frame key": keys.frame_key,
            "relay's own key": (services.directory / "relay" / "dev-key.pem").read_bytes().splitlines()[1],
        }
        yield Searched(services, path, secrets)


def family(pid: int) -> list[int]:
    """A process and what it has started."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
        if (task / "children").exists()
    ]
    return [pid, *(each for child in children for each in family(child))]


def play(services: Services) -> None:
    """Some traffic through the room, both ways."""
    services.party.player.up(TAP, "10.77.0.50/24")
    wait_for("the LAN", lambda: answers(services.party.player, topology.HOST), AMPLE)


def test_a_search_would_find_each_form_of_a_secret() -> None:
    secret = bytes(range(200, 232))
    watched = Searched(Services.__new__(Services), Path(), {"key": secret})
    for printed in (
        secret,
        repr(secret).encode(),
        secret.hex().encode(),
        base64.b64encode(secret),
        str([*secret]).encode(),
    ):
        assert watched.leaks(b"before " + printed + b" after")
    assert watched.leaks(b"nothing") == []


def test_a_party_with_everything_logged_tells_no_secret(searched: Searched) -> None:
    services = searched.services
    gateway = services.gateway(*ALL)
    client, _ = services.client(*ALL)
    play(services)
    searched.add_resume_strings()
    assert len(searched.secrets) == 8
    for process in services.processes:
        for pid in family(process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                assert searched.leaks(shown) == [], shown
    for process in (client, gateway):
        assert process.events("frame"), "frames were logged"
        process.send_signal(signal.SIGTERM)
        assert process.finish(AMPLE) == 0
    assert searched.found() == []
    for path in services.directory.rglob("*"):
        if path.is_file() and path.parent.name in ("gateway", "client"):
            assert path.stat().st_mode & 0o777 == 0o600


IN_CLIENTS = (
    # Where the secret is read, and where it becomes keys: the program ends before it has done anything.
    "softlan.client.invitation:_checked",
    "softlan.proto.keys:_derive",
    # Called by the session with what the relay said; by the event loop; and where the resume string is kept.
    "softlan.client.player:Player.joined",
    "softlan.client.bridge:Bridge._readable",
    "softlan.client.resume:ResumeFile.save",
)
IN_THE_RELAY = "softlan.relay.room:Room.add"
"""It knows the join token, and nothing else."""


def test_a_crash_tells_no_secret(searched: Searched) -> None:
    services = searched.services
    party = services.party
    invited = ("--invite", f"@{searched.invitation}", "--tap-name", TAP)

    def crashed(process: Process) -> None:
        fault = "RuntimeError: a fault was put here"
        wait_for(process.name, lambda: fault in process.output() or process.status is not None, 2 * AMPLE)
        assert fault in process.output(), process.tail()
        process.stop()

    for number, where in enumerate(IN_CLIENTS):  # one by one: they would pin the same route
        own = ("--tap-name", f"tap{number}", "--virtual-mac", f"02:00:5e:10:00:{number:02}", "--no-discovery")
        crashed(searched.with_a_fault(where, "client", party.player, *invited[:2], *own))
    services.processes.pop(0).stop()
    relay = searched.with_a_fault(IN_THE_RELAY, "relay", party.relay, "--listen", "443/udp", "--log-format", "json")
    event(relay, "relay.listening")
    flags = (*invited, *ALL, "--state-dir", str(services.directory / "client"))
    client = services.start("client", party.player, *(sys.executable, "-m", "softlan", "client", *flags))
    crashed(relay)
    client.stop()

    # Python's own fault handler prints where every thread was, and nothing of what it had at hand.
    services.relay(*ALL)
    argv = (sys.executable, "-X", "faulthandler", "-m", "softlan", "client", *invited, *ALL, "--log-format", "json")
    client = services.start("client", party.player, *argv, "--state-dir", str(services.directory / "client"))
    event(client, "joined")
    os.kill(client.pid, signal.SIGABRT)
    assert client.finish(AMPLE) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in client.output()

    searched.add_resume_strings()
    assert searched.found() == []
