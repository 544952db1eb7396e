"""Whatever is wrong with a command line or this machine: one line that says what to do, and the right exit status."""

import datetime
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.tools import require_tool, unavailable

from softlan.cli import main
from softlan.client.invitation import Invitation
from softlan.demo.netns import Lab, Namespace
from softlan.demo.processes import Process, environment, wait_for
from softlan.net.address import HostPort
from softlan.quic.trust import Credentials, development_credentials

FAILED, USAGE = 1, 2
PATIENCE = 15.0  # seconds; a command that waits for something would wait longer than this

RELAY = ("softlan", "relay", "--listen", "127.0.0.1:0")
CLIENT = ("softlan", "client", "--relay", "127.0.0.1", "--room", "DEN")
INVITATION = Invitation(HostPort("127.0.0.1", 443), "DEN", None, bytes(32), bytes(32)).text()
GATEWAY = ("softlan", "gateway", "--relay", "127.0.0.1", "--room", "DEN")


def command(*argv: str) -> list[str]:
    """The installed command of that name, beside the Python that runs this."""
    return [str(Path(sys.executable).with_name(argv[0])), *argv[1:]]


def complaint(directory: Path, argv: list[str], status: int, **variables: str) -> str:
    """Run what must fail with `status`, in an empty home; return the one line that it said."""
    home = {"XDG_STATE_HOME": str(directory / "home"), "HOME": str(directory / "home")}
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=directory,
        env={**environment(), **home, **variables},
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(r"softlan: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.strip()


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """A certificate and its key, also as `cert.pem` and `key.pem` in the directory."""
    made = development_credentials(tmp_path / "made", "relay.example.net", datetime.datetime.now(datetime.UTC))
    (tmp_path / "cert.pem").write_bytes(made.chain)
    (tmp_path / "key.pem").write_bytes(made.key)
    (tmp_path / "garbage.pem").write_text("no certificate\n")
    return made


# What is wrong with the command line: status 2, and the line names the flag or the value.

USAGE_ERRORS = {
    "unknown command": ("softlan join", ["join", "relay, gateway, client", "see softlan --help"]),
    "unknown flag": ("softlan relay --port 443", ["--port", "see softlan relay --help"]),
    "unknown flag for a missing one": ("softlan gateway --room DEN --ifac eth0", ["--iface is missing", "--ifac"]),
    "unknown flag of an endpoint": ("softlan client --relay x --rom DEN", ["--rom", "see softlan client --help"]),
    "an invitation without its flag": ("softlan client softlan1_AAAA", ["an invitation goes behind --invite"]),
    "an invitation that is cut off": ("softlan client --invite softlan1_AAAA", ["cut off or changed"]),
    "an invitation and a relay": ("softlan client --invite softlan1_AAAA --relay x", ["--invite and --relay"]),
    "an invitation on standard input": ("softlan client --invite -", ["this is no invitation"]),
    "an invitation that was forgotten": ("softlan client --invite", ["--invite needs a value"]),
    "a flag for an invitation": ("softlan client --invite --no-seal", ["this is no invitation"]),
    "an invitation's file": ("softlan doctor --invite garbage.pem", ["write @garbage.pem"]),
    "missing invitation": ("softlan gateway --iface lo --invite @no", ["cannot read no"]),
    "no invitation": ("softlan room show @garbage.pem", ["this is no invitation"]),
    "no room to invite to": ("softlan room new --relay x", ["ROOM is missing", "see softlan room new --help"]),
    "unknown flag of an alias": ("lanparty-relay --port 443", ["--port", "see lanparty-relay --help"]),
    "missing flag": ("softlan gateway --relay x --room DEN", ["--iface is missing", "see softlan gateway --help"]),
    "missing flag of an alias": ("lanparty-gateway --relay x --room DEN", ["--iface is missing", "lanparty-gateway"]),
    "flag without its value": ("lanparty-client --room DEN --relay", ["--relay needs a value", "lanparty-client"]),
    "flag given twice": ("softlan client --relay x --relay y --room DEN", ["--relay"]),
    "stray word": ("softlan relay 443", ["'443'", "see softlan relay --help"]),
    "a word for a number": ("softlan relay --max-rooms many", ["--max-rooms", "many"]),
    "unknown choice": ("softlan relay --log-level loud", ["--log-level", "loud", "warning"]),
    "room with a slash": ("softlan client --relay x --room DEN/2", ["--room", "DEN/2", "1 to 32"]),
    "empty room": ("softlan client --relay x --room=", ["--room", "1 to 32"]),
    "relay that is no host": ("softlan client --relay http://x --room DEN", ["http://x", "relay.example.net"]),
    "relay's port": ("softlan client --relay x:99999 --room DEN", ["99999", "65535"]),
    "MAC": ("softlan client --relay x --room DEN --virtual-mac 02:00", ["02:00", "02:00:5e:10:00:01"]),
    "broadcast MAC": (
        "softlan client --relay x --room DEN --virtual-mac ff:ff:ff:ff:ff:ff",
        ["--virtual-mac", "broad"],
    ),
    "server name": ("softlan client --relay x --room DEN --server-name a/b", ["--server-name", "a/b"]),
    "relay's server name": ("softlan relay --server-name", ["--server-name needs a value"]),
    "empty server name": ("softlan relay --server-name=", ["--server-name", "relay.example.net"]),
    "name of an interface": ("softlan client --relay x --room DEN --tap-name a/b", ["--tap-name", "a/b"]),
    "no name of an interface": ("softlan doctor --relay x --tap-name=", ["--tap-name"]),
    "flag of Windows": ("softlan client --relay x --room DEN --metric 3", ["--metric", "Windows"]),
    "another flag of Windows": ("softlan client --relay x --room DEN --allow-inbound", ["--allow-inbound", "Windows"]),
    "status interval": ("softlan client --relay x --room DEN --status-interval 0", ["--status-interval", "3600"]),
    "client without a relay": ("softlan client", ["--invite is missing", "--relay and --room"]),
    "client without a room": ("softlan client --relay x", ["--room is missing"]),
    "doctor without a relay": ("softlan doctor", ["--invite is missing", "--relay"]),
    "doctor's room": ("softlan doctor --relay x --room a/b", ["--room", "a/b"]),
    "listen address": ("softlan relay --listen example.net:443", ["example.net", "443/udp"]),
    "listen protocol": ("softlan relay --listen 443/tcp", ["tcp", "443/udp"]),
    "MTU": ("softlan relay --room-mtu 100", ["--room-mtu", "256", "9000"]),
    "limit": ("softlan relay --max-peers 0", ["--max-peers", "at least 1"]),
    "missing certificate": (
        "softlan client --relay x --room DEN --relay-ca-cert no.der",
        ["no.der", "--relay-ca-cert"],
    ),
    "certificate that is none": ("softlan client --relay x --room DEN --relay-ca-cert garbage.pem", ["garbage.pem"]),
    "certificate of another": ("softlan client --relay x --room DEN --relay-ca-cert cert.pem", ["--server-name"]),
    "certificate that is a directory": ("softlan client --relay x --room DEN --relay-ca-cert .", ["--relay-ca-cert"]),
    "certificate without key": ("softlan relay --cert cert.pem", ["--cert", "--key"]),
    "key without certificate": ("softlan relay --key key.pem", ["--cert", "--key"]),
    "missing relay certificate": ("softlan relay --cert no.pem --key key.pem", ["no.pem", "--cert"]),
    "missing key": ("softlan relay --cert cert.pem --key no.pem", ["no.pem", "--key"]),
    "key that is none": ("softlan relay --cert cert.pem --key garbage.pem", ["garbage.pem", "PEM"]),
}


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_a_wrong_command_line(name: str, tmp_path: Path) -> None:
    line, words = USAGE_ERRORS[name]
    said = complaint(tmp_path, command(*line.split()), USAGE)
    for word in words:
        assert word in said
    assert not (tmp_path / "home").exists()  # nothing is kept of it


def test_an_invitation_in_the_environment(tmp_path: Path) -> None:
    said = complaint(tmp_path, command("softlan", "client"), USAGE, SOFTLAN_INVITE="softlan1_AAAA")
    assert "cut off or changed" in said
    said = complaint(tmp_path, command("softlan", "client", "--room", "DEN"), USAGE, SOFTLAN_INVITE=INVITATION)
    assert "SOFTLAN_INVITE and --room" in said


def test_a_key_of_another_certificate(tmp_path: Path, credentials: Credentials) -> None:
    other = development_credentials(tmp_path / "other", "x", datetime.datetime.now(datetime.UTC))
    (tmp_path / "other.pem").write_bytes(other.key)
    said = complaint(tmp_path, command(*RELAY, "--cert", "cert.pem", "--key", "other.pem"), USAGE)
    assert "other.pem does not belong" in said


# What is wrong with this machine: status 1


def test_an_interface_that_does_not_exist(tmp_path: Path) -> None:
    assert "no interface nosuch0" in complaint(tmp_path, command(*GATEWAY, "--iface", "nosuch0"), FAILED)


def test_an_interface_that_is_not_wired(tmp_path: Path) -> None:
    assert "lo is the loopback" in complaint(tmp_path, command(*GATEWAY, "--iface", "lo"), FAILED)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = complaint(tmp_path, command("softlan", "relay", "--listen", f"127.0.0.1:{port}"), FAILED)
    assert f"UDP port {port}" in said
    assert "--listen" in said


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    assert "192.0.2.1" in complaint(tmp_path, command("softlan", "relay", "--listen", "192.0.2.1:4433"), FAILED)


@pytest.mark.parametrize("argv", [RELAY, CLIENT], ids=["relay", "client"])
def test_a_state_directory_that_cannot_be_used(argv: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = complaint(tmp_path, command(*argv, "--state-dir", "file"), FAILED)
    assert "file" in said
    assert "--state-dir" in said


def test_a_certificate_that_cannot_be_written(tmp_path: Path) -> None:
    said = complaint(tmp_path, command(*RELAY, "--dev-cert-der-out", "nowhere/relay.der"), FAILED)
    assert "nowhere/relay.der" in said
    assert "--dev-cert-der-out" in said


def test_an_identity_that_was_damaged(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{}")
    assert "identity.json" in complaint(tmp_path, command(*CLIENT, "--state-dir", "."), FAILED)
    assert (tmp_path / "identity.json").read_text() == "{}"


@pytest.mark.parametrize(
    "line",
    [
        "softlan client --list-tap-adapters",
        "softlan service install --relay 127.0.0.1 --room DEN",
        f"softlan service install --invite {INVITATION}",
        "softlan service run --relay 127.0.0.1 --room DEN",
        "softlan service remove",
    ],
)
def test_what_only_windows_has(line: str, tmp_path: Path) -> None:
    assert "unsupported platform" in complaint(tmp_path, command(*line.split()), FAILED)
    assert not (tmp_path / "home").exists()


# Without privileges; in a namespace, where a port below 1024 is a privilege whatever this machine has set


@pytest.fixture
def computer(lab: Lab) -> Namespace:
    """A computer with a wired interface that is up."""
    computer, other = lab.namespace("cli"), lab.namespace("far")
    lab.cable((computer, "wired0"), (other, "far0"))
    computer.up("wired0")
    other.up("far0")
    return computer


UNPRIVILEGED = {
    "relay": (("relay", "--listen", "443/udp"), ["443", "root", "--listen"]),
    "gateway": ((*GATEWAY[1:], "--iface", "wired0"), ["wired0", "root", "CAP_NET_RAW"]),
    "client": (CLIENT[1:], ["root", "CAP_NET_ADMIN"]),
}


@pytest.mark.netns
@pytest.mark.parametrize("name", UNPRIVILEGED)
def test_no_privilege(name: str, computer: Namespace, tmp_path: Path) -> None:
    argv, words = UNPRIVILEGED[name]
    # Still root, so that it can read everything, but as powerless as any other user.
    powerless = (require_tool("setpriv"), "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "--")
    said = complaint(tmp_path, computer.command(*powerless, *command("softlan", *argv)), FAILED)
    for word in words:
        assert word in said


@pytest.mark.netns
def test_a_relay_whose_name_nobody_knows(computer: Namespace, tmp_path: Path) -> None:
    argv = computer.command(*command("softlan", "client", "--relay", "relay.invalid", "--room", "DEN"))
    said = complaint(tmp_path, argv, FAILED)
    assert "relay.invalid" in said
    assert "DNS" in said


@pytest.mark.netns
def test_an_interface_that_is_down(lab: Lab, tmp_path: Path) -> None:
    computer = lab.namespace("cli")
    lab.cable((computer, "wired0"), (lab.namespace("far"), "far0"))
    said = complaint(tmp_path, computer.command(*command(*GATEWAY, "--iface", "wired0")), FAILED)
    assert "ip link set wired0 up" in said


@pytest.mark.netns
def test_a_tap_name_that_is_taken(computer: Namespace, tmp_path: Path) -> None:
    said = complaint(tmp_path, computer.command(*command(*CLIENT, "--tap-name", "wired0")), FAILED)
    assert "wired0" in said


# The relay's certificate


@pytest.fixture
def relay_log(tmp_path: Path) -> Path:
    return tmp_path / "relay.log"


def start_relay(log: Path, *flags: str) -> Process:
    directory = log.parent
    argv = command(*RELAY, "--state-dir", str(directory / "state"), "--log-format", "json", *flags)
    relay = Process("relay", argv, log)
    relay.wait_for("listening", lambda: relay.events("relay.listening"), PATIENCE)
    return relay


def test_the_development_certificate_is_written_and_kept_over_a_restart(tmp_path: Path, relay_log: Path) -> None:
    der = tmp_path / "relay.der"
    written = []
    for _ in range(2):
        der.unlink(missing_ok=True)
        relay = start_relay(relay_log, "--server-name", "relay.example.net", "--dev-cert-der-out", str(der))
        written.append(der.read_bytes())
        assert relay.stop() == 0
    assert written[0] == written[1]
    names = x509.load_der_x509_certificate(written[0]).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "relay.example.net"]
    key = tmp_path / "state" / "dev-key.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_given_certificate_is_used(tmp_path: Path, relay_log: Path, credentials: Credentials) -> None:
    der = tmp_path / "relay.der"
    files = ("--cert", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem"))
    relay = start_relay(relay_log, *files, "--dev-cert-der-out", str(der))
    assert relay.stop() == 0
    given = x509.load_pem_x509_certificate(credentials.chain)
    assert der.read_bytes() == given.public_bytes(Encoding.DER)
    assert not (tmp_path / "state").exists()


def test_state_is_kept_where_the_system_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    relay = Process("relay", command(*RELAY, "--log-format", "json"), tmp_path / "log")
    relay.wait_for("listening", lambda: relay.events("relay.listening"), PATIENCE)
    relay.stop()
    assert (tmp_path / "state-home" / "softlan" / "dev-cert.pem").exists()


# Help

COMMON = ["--state-dir", "--log-level", "--log-format"]
ENDPOINT = ["--invite", "--no-seal", "--relay", "--room", "--server-name", "--relay-ca-cert", *COMMON]
HELP = {
    "softlan": ["relay", "room", "gateway", "client", "doctor", "demo", "--version", "--help"],
    "softlan room": ["new", "show"],
    "softlan room new": ["ROOM", "--relay", "--server-name", "--relay-ca-cert", "--no-pin", "--out", "--qr"],
    "softlan room show": ["INVITATION", "--qr", "--relay-config"],
    "softlan relay": [
        *("--listen", "--server-name", "--cert", "--key", "--dev-cert-der-out", "--redirect", "--max-rooms"),
        *("--max-peers", "--max-room-peers", "--room-mtu", "--allow-universal-macs", "--frame-log", *COMMON),
    ],
    "softlan gateway": ["--iface", *ENDPOINT],
    "softlan client": ["--virtual-mac", "--tap-name", *ENDPOINT],
    "softlan demo": ["--keep", "--end"],
}


def help_of(name: str) -> str:
    argv = command(*name.split(), "--help")
    env = {**environment(), "COLUMNS": "200"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE, env=env)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", HELP)
def test_help_names_every_flag_and_says_what_it_is_for(name: str) -> None:
    rows = [line.strip("│ *") for line in help_of(name).splitlines()]
    for flag in HELP[name]:
        (row,) = [row for row in rows if row.startswith(f"{flag} ")]
        _, _, meaning = row.partition("  ")
        assert re.search(r"\w+ \w+", meaning)


@pytest.mark.parametrize("name", ["relay", "gateway", "client"])
def test_an_alias_takes_the_same_flags(name: str) -> None:
    assert help_of(f"lanparty-{name}") == help_of(f"softlan {name}")


def test_version() -> None:
    done = subprocess.run(command("softlan", "--version"), capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert re.fullmatch(r"softlan \d+\.\d+\.\d+\n", done.stdout)


def test_the_command_is_also_a_module() -> None:
    argv = [sys.executable, "-m", "softlan", "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE, env=dict(os.environ))
    assert done.stdout.startswith("softlan ")


# A process with secrets


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux's")
@pytest.mark.parametrize(
    "alias", [("softlan", "client"), ("lanparty-gateway", "--iface", "lan0")], ids=lambda argv: argv[0]
)
def test_its_memory_is_nobodys_business_before_it_has_read_any(alias: tuple[str, ...], tmp_path: Path) -> None:
    """Here it waits for an invitation on standard input. Without capabilities we are like any other user."""
    if os.geteuid():
        unavailable("needs root, to have something to give up")
    argv = [require_tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    look = [*argv, "cat"]
    process = subprocess.Popen(
        [*argv, *command(*alias), "--invite", "-", "--state-dir", str(tmp_path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), "SOFTLAN_TEST": "1"},
    )
    try:
        assert process.stdin is not None
        syscall = Path(f"/proc/{process.pid}/wchan")
        wait_for("it waits", lambda: "pipe" in syscall.read_text(), PATIENCE)
        assert subprocess.run([*look, f"/proc/{process.pid}/environ"], capture_output=True, check=False).returncode
        _, said = process.communicate(b"nonsense", PATIENCE)
        assert (process.returncode, said.count(b"\n")) == (USAGE, 1)
    finally:
        process.kill()
        process.wait()


FULL_DISK = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="a Linux device: every write fails, the disk is full"
)


@FULL_DISK
@pytest.mark.parametrize(("argv", "status"), [((*CLIENT[:-2],), USAGE), ((*RELAY, "--cert", "/nowhere"), USAGE)])
def test_the_status_is_the_same_where_nothing_can_be_said(argv: tuple[str, ...], status: int, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command(*argv), "--state-dir", str(tmp_path)], stderr=full, check=False, timeout=PATIENCE
        )
    assert done.returncode == status


def test_a_success_comes_back_as_a_failure_does(capsys: pytest.CaptureFixture[str]) -> None:
    """And does not end the process on its own: what is to be done at its end is done after every command."""
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("softlan ")
    assert main.run(["demo", "--no-such-flag"]) == USAGE


OUTPUT = {
    "room show": ("softlan", "room", "show", INVITATION),
    "room new": ("softlan", "room", "new", "DEN", "--relay", "x", "--no-pin"),
    "relay": ("softlan", "relay", "--print-config"),
    "help": ("softlan", "--help"),
    "doctor": ("softlan", "doctor", "--relay", "relay.invalid", "--json"),
}


@pytest.mark.parametrize("name", OUTPUT)
@pytest.mark.parametrize(
    ("where", "why"),
    [
        pytest.param("/dev/full", "No space left on device", marks=FULL_DISK),
        ("a pipe that nobody reads", "Broken pipe"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(name: str, where: str, why: str, tmp_path: Path) -> None:
    if where == "/dev/full":
        output = os.open(where, os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    with open(output, "wb") as full:
        env = {**environment(), "XDG_STATE_HOME": str(tmp_path)}
        done = subprocess.run(
            command(*OUTPUT[name]),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=env,
        )
    assert done.returncode == FAILED
    assert [line for line in done.stderr.splitlines() if line.startswith(("softlan:", "Traceback"))] == [
        f"softlan: cannot write what was asked for: {why}"
    ]


def test_a_process_without_standard_output_is_no_fault() -> None:
    argv = command("softlan", "room", "new", "DEN", "--relay", "x", "--no-pin")
    shell = ["/bin/sh", "-c", '"$@" >&-', "sh", *argv]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0
    assert "Send it to everyone in the party" in done.stderr
