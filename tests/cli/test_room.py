"""``softlan room``: what programs read is on standard output, what people read beside it."""

import datetime
import os
import pty
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import segno
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from softlan.cli import main
from softlan.cli.config_file import load_rooms
from softlan.cli.invited import VARIABLE
from softlan.client.invitation import Invitation, parse
from softlan.net.address import HostPort
from softlan.quic import trust
from softlan.quic.trust import development_credentials, write_der

NOW = datetime.datetime.now(datetime.UTC)
FULL = Invitation(
    HostPort("192.0.2.7", 4433), "ROOM1", "lanparty-relay.local", bytes(range(32)), bytes(range(100, 132))
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a directory to work in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "softlan"


def run(argv: list[str]) -> int:
    """The exit status of a command line."""
    return main.run(argv)


def made(capsys: Capture, *flags: str) -> tuple[Invitation, str]:
    """The invitation of `softlan room new ROOM1 --relay relay.example.net`, and what is said about it."""
    assert run(["room", "new", "ROOM1", "--relay", "relay.example.net", *flags]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"softlan1_[A-Za-z0-9_-]+\n", out)
    return parse(out), err


def refused(capsys: Capture, *argv: str) -> str:
    assert run(["room", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"softlan: [^\n]+\n", err)
    return err


def test_a_new_invitation(capsys: Capture) -> None:
    invitation, said = made(capsys)
    assert (invitation.relay, invitation.room) == (HostPort("relay.example.net", 443), "ROOM1")
    assert (invitation.server_name, invitation.pin) == (None, None)
    assert "No certificate is pinned" in said
    for command in ("softlan gateway", "softlan client", "softlan doctor"):
        assert f"sudo {command} --invite @ROOM1.invite" in said
    assert invitation.text() not in said
    assert "█" not in said


def test_each_has_a_secret_of_its_own(capsys: Capture) -> None:
    secrets = {made(capsys)[0].secret for _ in range(2)}
    assert len(secrets) == 2
    assert None not in secrets


def test_into_a_file(capsys: Capture, tmp_path: Path) -> None:
    assert run(["room", "new", "ROOM1", "--relay", "192.0.2.7:4433", "--out", "my.invite"]) == 0
    out, err = capsys.readouterr()
    file = tmp_path / "my.invite"
    assert out == ""
    assert file.stat().st_mode & 0o777 == 0o600
    assert parse(file.read_text()).relay == HostPort("192.0.2.7", 4433)
    assert file.read_text().strip() not in err
    assert "--invite @my.invite" in err


def test_no_file_is_written_over(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "my.invite").write_text("precious")
    assert "exists already" in refused(capsys, "new", "ROOM1", "--relay", "x", "--out", "my.invite")
    assert (tmp_path / "my.invite").read_text() == "precious"


def test_a_file_that_cannot_be_written(capsys: Capture) -> None:
    assert run(["room", "new", "ROOM1", "--relay", "x", "--out", "nowhere/my.invite"]) == 1
    assert "choose another --out" in capsys.readouterr().err


def test_half_an_invitation_is_not_left_behind(capsys: Capture, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))  # bytes; Python ignores the signal that goes with it
    try:
        assert run(["room", "new", "ROOM1", "--relay", "x", "--out", "my.invite"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot write my.invite: File too large" in capsys.readouterr().err
    assert not (tmp_path / "my.invite").exists()


def test_a_link_that_is_laid_out_is_not_followed(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "my.invite").symlink_to(tmp_path / "somebody-elses")
    assert "exists already" in refused(capsys, "new", "ROOM1", "--relay", "x", "--out", "my.invite")
    assert not (tmp_path / "somebody-elses").exists()


def pin_of(directory: Path) -> bytes:
    certificate = x509.load_pem_x509_certificate((directory / "dev-cert.pem").read_bytes())
    return certificate.fingerprint(hashes.SHA256())


def test_the_certificate_of_a_relay_on_this_machine_is_pinned(home: Path, capsys: Capture) -> None:
    development_credentials(home, "lanparty-relay.local", NOW)
    invitation, said = made(capsys)
    assert (invitation.server_name, invitation.pin) == ("lanparty-relay.local", pin_of(home))
    assert f"The certificate in {home / 'dev-cert.pem'} is pinned. It is good until 20" in said


def test_of_a_relay_with_another_state_directory(tmp_path: Path, capsys: Capture) -> None:
    development_credentials(tmp_path / "state", "relay.example.net", NOW)
    invitation, _ = made(capsys, "--state-dir", "state")
    assert (invitation.server_name, invitation.pin) == (None, pin_of(tmp_path / "state"))


def test_a_certificate_that_is_given_is_pinned(tmp_path: Path, home: Path, capsys: Capture) -> None:
    development_credentials(home, "lanparty-relay.local", NOW)
    write_der(tmp_path / "relay.der", development_credentials(tmp_path / "other", "relay.example.net", NOW))
    invitation, said = made(capsys, "--relay-ca-cert", "relay.der")
    assert (invitation.server_name, invitation.pin) == (None, pin_of(tmp_path / "other"))
    assert "The certificate in relay.der is pinned" in said
    named, _ = made(capsys, "--relay-ca-cert", "relay.der", "--server-name", "localhost")
    assert named.server_name == "localhost"


def test_nothing_is_pinned_if_that_is_wanted(home: Path, capsys: Capture) -> None:
    development_credentials(home, "lanparty-relay.local", NOW)
    invitation, said = made(capsys, "--no-pin")
    assert (invitation.server_name, invitation.pin) == (None, None)
    assert "their system trusts" in said


def test_a_certificate_that_ends_soon_is_not_pinned(home: Path, capsys: Capture) -> None:
    development_credentials(home, "x", NOW - trust.DEV_VALIDITY + trust.DEV_RENEW_BEFORE)
    assert "restart the relay" in refused(capsys, "new", "ROOM1", "--relay", "x")


def authority(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "some CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(days=9))
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(
        key, hashes.SHA256()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("new a/b --relay x", "'a/b' cannot be a room"),
        ("new ROOM1 --relay http://x", "http://x"),
        ("new ROOM1 --relay fe80::1%eth0", "an interface of this machine"),
        ("new ROOM1 --relay x --server-name a/b", "--server-name"),
        ("new ROOM1 --relay x --relay-ca-cert no.der", "no.der"),
        ("new ROOM1 --relay x --relay-ca-cert ca.pem", "ca.pem is a CA's certificate"),
        ("new ROOM1 --relay x --relay-ca-cert ca.pem --no-pin", "do not go together"),
        ("new ROOM1 --relay x --state-dir damaged", "damaged/dev-cert.pem"),
        ("new ROOM1", "--relay is missing; see softlan room new --help"),
        ("new ROOM1 --relay x --state-dir empty", "no relay has made a certificate in empty; check --state-dir"),
        ("new -- -foo --relay x", "--relay is missing; see softlan room new --help"),
        ("show --qr --relay-config " + FULL.text(), "--qr and --relay-config do not go together"),
        ("show", "the invitation is missing"),
        ("show nothing", "this is no invitation"),
        ("show @nothing", "cannot read nothing"),
        ("show --relay-config " + Invitation(HostPort("x", 1), "DEN").text(), "no secret"),
    ],
)
def test_what_is_wrong(line: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    authority(tmp_path / "ca.pem")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "dev-cert.pem").write_text("no certificate\n")
    assert said in refused(capsys, *line.split())


def test_an_invitation_told(capsys: Capture) -> None:
    assert run(["room", "show", FULL.text()]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "room         ROOM1",
        "relay        192.0.2.7:4433",
        "server name  lanparty-relay.local",
        f"certificate  the one with SHA-256 {bytes(range(32)).hex()}",
        "secret       yes: frames are sealed, and the relay cannot read them",
    ]


def test_an_open_invitation_told(capsys: Capture) -> None:
    assert run(["room", "show", Invitation(HostPort("x", 1), "DEN").text()]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "server name  x, the relay's own",
        "certificate  one that the system trusts",
        "secret       none: anyone may join, and the relay reads all",
    ]


def test_an_invitation_from_a_file_or_the_environment(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.invite").write_text(FULL.text())
    assert run(["room", "show", "@my.invite"]) == 0
    monkeypatch.setenv(VARIABLE, "@my.invite")
    assert run(["room", "show"]) == 0
    first, second = capsys.readouterr().out.split("room  ")[1:]
    assert first == second


def test_the_lines_for_the_relays_operator(capsys: Capture, tmp_path: Path) -> None:
    assert run(["room", "show", "--relay-config", FULL.text()]) == 0
    config = tmp_path / "relay.toml"
    config.write_text(capsys.readouterr().out)
    keys = FULL.keys()
    assert keys is not None
    assert load_rooms(config, 1418).settings("ROOM1").token == keys.token


def test_they_go_below_a_file_whose_last_line_has_no_end(capsys: Capture, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text("open_rooms = false")
    assert run(["room", "show", "--relay-config", FULL.text()]) == 0
    with config.open("a") as file:
        file.write(capsys.readouterr().out)
    rooms = load_rooms(config, 1418)
    assert (rooms.open_rooms, [*rooms.named]) == (False, ["ROOM1"])


def drawn(text: str) -> list[list[bool]]:
    """The modules of a code in a terminal, dark ones True: two rows in each line, without its quiet zone."""
    rows: list[list[bool]] = []
    for line in text.splitlines():
        rows += [[letter not in "█▀" for letter in line], [letter not in "█▄" for letter in line]]
    size = len(rows[0])
    assert not any(any(row) for row in (*rows[:2], *rows[size - 2 : size]))
    return [row[2:-2] for row in rows[2 : size - 2]]


def test_the_code(capsys: Capture) -> None:
    assert run(["room", "show", "--qr", FULL.text()]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    code = segno.make_qr(FULL.text(), error="l", boost_error=False)
    assert drawn(out) == [[bool(module) for module in row] for row in code.matrix]


def test_a_code_beside_the_invitation(capsys: Capture) -> None:
    invitation, said = made(capsys, "--qr")
    (at,) = [number for number, line in enumerate(said.splitlines()) if set(line) == {"█"}]
    code = segno.make_qr(invitation.text(), error="l", boost_error=False)
    assert drawn("\n".join(said.splitlines()[at:])) == [[bool(module) for module in row] for row in code.matrix]


NEW = ("new", "ROOM1", "--relay", "x")


def in_a_terminal(columns: int, *flags: str, status: int = 0) -> str:
    """What a person sees of `softlan room`."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "softlan", "room", *flags]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    done = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # EIO: the other end is closed, pty(7)
        pass
    finally:
        os.close(ours)
        assert done.wait(30) == status
    return seen.decode()


def test_a_terminal_shows_the_code(tmp_path: Path) -> None:
    seen = in_a_terminal(80, *NEW)
    assert "\x1b[97;40m█████" in seen  # white on black, whatever the terminal's colours are
    assert parse(seen.split()[-1]).room == "ROOM1"


def test_a_narrow_terminal_does_not(tmp_path: Path) -> None:
    seen = in_a_terminal(40, *NEW)
    assert "█" not in seen
    (needed,) = re.findall(r"needs a terminal of (\d+) columns, and this one has 40", " ".join(seen.split()))
    assert parse(seen.split()[-1]).room == "ROOM1"
    assert "█" in in_a_terminal(int(needed), "show", "--qr", seen.split()[-1])


def test_a_code_that_has_no_room_is_an_error_of_usage(tmp_path: Path) -> None:
    seen = in_a_terminal(40, "show", "--qr", FULL.text(), status=2)
    assert "█" not in seen
    assert re.search(r"softlan: the QR code needs a terminal of \d+ columns, and this one has 40", seen)


def test_nor_one_that_was_told_not_to(tmp_path: Path) -> None:
    assert "█" not in in_a_terminal(80, *NEW, "--no-qr")
