"""An invitation or single flags, never both; and what a client or gateway makes of them."""

import datetime
import os
from pathlib import Path

import pytest

from softlan.cli.invited import VARIABLE
from softlan.cli.options import (
    LogOptions,
    PlayerOptions,
    RelayOptions,
    client_config,
    destination,
    invitation_of,
    tunnel_config,
)
from softlan.client.invitation import Invitation
from softlan.ctrl.messages import Role
from softlan.errors import UsageError
from softlan.net.address import HostPort
from softlan.proto.keys import room_keys
from softlan.quic.trust import Trust, development_credentials, write_der

RELAY, SECRET, PIN = HostPort("192.0.2.7", 4433), bytes(range(32)), bytes(range(100, 132))
PINNED = Invitation(RELAY, "DEN", "lanparty-relay.local", PIN, SECRET)
OPEN = Invitation(RELAY, "DEN")
KEYS = room_keys(SECRET, "DEN")


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_an_invitation_has_all_that_it_takes(tmp_path: Path) -> None:
    config = tunnel_config(RelayOptions(invite=PINNED.text()), Role.GATEWAY, None, tmp_path)
    assert config.relay == RELAY
    assert config.trust == Trust("lanparty-relay.local", fingerprint=PIN.hex())
    identity = config.identity
    assert (identity.role, identity.room, identity.mac) == (Role.GATEWAY, "DEN", None)
    assert (identity.room_token, identity.frame_key) == (KEYS.token, KEYS.frame_key)


def test_without_a_pin_the_system_decides(tmp_path: Path) -> None:
    config = tunnel_config(RelayOptions(invite=OPEN.text()), Role.GATEWAY, None, tmp_path)
    assert config.trust == Trust("192.0.2.7")
    assert (config.identity.room_token, config.identity.frame_key) == (None, None)


def test_a_player_by_invitation(tmp_path: Path) -> None:
    config = client_config(RelayOptions(invite=PINNED.text()), PlayerOptions(), LogOptions(), tmp_path)
    identity = config.tunnel.identity
    assert (identity.role, identity.room_token, identity.frame_key) == (Role.CLIENT, KEYS.token, KEYS.frame_key)
    assert identity.mac is not None


def test_a_plain_room_is_joined_with_the_token_all_the_same() -> None:
    where = destination(RelayOptions(invite=PINNED.text(), no_seal=True))
    assert (where.room_token, where.frame_key) == (KEYS.token, None)


def test_single_flags(tmp_path: Path) -> None:
    where = destination(RelayOptions(relay="relay.example.net", room="DEN"))
    assert (where.relay, where.server_name) == (HostPort("relay.example.net", 443), "relay.example.net")
    assert (where.room, where.room_token, where.frame_key, where.is_invited) == ("DEN", None, None, False)


def test_single_flags_with_a_certificate(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    write_der(tmp_path / "relay.der", development_credentials(tmp_path, "relay.example.net", now))
    options = RelayOptions(relay="x", room="DEN", server_name="relay.example.net", relay_ca_cert=tmp_path / "relay.der")
    assert tunnel_config(options, Role.GATEWAY, None, tmp_path).trust.fingerprint is not None


def test_an_invitation_without_a_pin_and_a_certificate(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    write_der(tmp_path / "relay.der", development_credentials(tmp_path, "192.0.2.7", now))
    options = RelayOptions(invite=OPEN.text(), relay_ca_cert=tmp_path / "relay.der")
    assert tunnel_config(options, Role.GATEWAY, None, tmp_path).trust.fingerprint is not None


def test_the_environment_is_asked_when_no_flag_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PINNED.text())
    assert invitation_of(RelayOptions()) == PINNED
    assert invitation_of(RelayOptions(invite=OPEN.text())) == OPEN
    assert invitation_of(RelayOptions(relay="x", room="DEN")) is None


@pytest.mark.parametrize("options", [RelayOptions(), RelayOptions(invite=OPEN.text()), RelayOptions(relay="x")])
def test_what_we_start_inherits_no_invitation(monkeypatch: pytest.MonkeyPatch, options: RelayOptions) -> None:
    monkeypatch.setenv(VARIABLE, PINNED.text())
    invitation_of(options)
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RelayOptions(), "--invite is missing, or --relay and --room; ask"),
        (RelayOptions(room="DEN"), "--invite is missing, or --relay; ask"),
        (RelayOptions(relay="x", room="a/b"), "--room 'a/b'"),
        (RelayOptions(invite=OPEN.text(), relay="x"), "--invite and --relay do not go together"),
        (RelayOptions(invite=OPEN.text(), room="DEN"), "--invite and --room do not go together"),
        (RelayOptions(invite=OPEN.text(), server_name="x"), "--invite and --server-name do not go together"),
        (RelayOptions(invite=PINNED.text(), relay_ca_cert=Path("x")), "leave out --relay-ca-cert"),
    ],
)
def test_what_does_not_go_together(options: RelayOptions, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        destination(options)
    assert said in str(caught.value)


def test_the_environment_and_a_flag_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, OPEN.text())
    with pytest.raises(UsageError, match="SOFTLAN_INVITE and --room do not go together"):
        destination(RelayOptions(room="DEN"))


def test_a_tunnel_needs_a_room_and_the_doctor_does_not(tmp_path: Path) -> None:
    assert destination(RelayOptions(relay="x")).room is None
    with pytest.raises(UsageError, match="--room is missing"):
        tunnel_config(RelayOptions(relay="x"), Role.GATEWAY, None, tmp_path)


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    options = RelayOptions(invite=PINNED.text())
    config = client_config(options, PlayerOptions(), LogOptions(), tmp_path)
    printed = repr((options, destination(options), config))
    for secret in (PINNED.text(), KEYS.token, repr(KEYS.frame_key), repr(SECRET)):
        assert secret not in printed
