"""The config file of relay and gateway: what it says is in force, what is wrong with it is told in one line."""

import dataclasses
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.cli.config_file import NOT_SHOWN, load_rooms, show_rooms
from softlan.demo.processes import environment
from softlan.errors import UsageError
from softlan.policy.rules import Policy
from softlan.proto.budget import DEFAULT_ROOM_MTU, MAX_MTU, MIN_MTU
from softlan.proto.keys import room_keys
from softlan.relay.settings import RoomBook, RoomSettings


def load(directory: Path, text: str, default_mtu: int = DEFAULT_ROOM_MTU) -> RoomBook:
    path = directory / "relay.toml"
    path.write_text(text, "utf-8")
    return load_rooms(path, default_mtu)


def everything(rooms: RoomBook) -> tuple[RoomSettings, dict[str, RoomSettings]]:
    return rooms.default, rooms.named


TOKEN = room_keys(bytes(32), "den").token


# What it says


types = st.frozensets(st.integers(0x0600, 0xFFFF), max_size=5)
rates = st.just(0.0) | st.floats(1e-9, 9e15) | st.integers(0, 10**9).map(float)
OF_TYPE = {
    bool: st.booleans(),
    float: rates,
    int: st.integers(65536, 10**12),
    frozenset[int]: types,
    frozenset[int] | None: st.none() | types,
}
policies = st.builds(Policy, **{field.name: OF_TYPE[field.type] for field in dataclasses.fields(Policy)})  # type: ignore[index]
mtus = st.integers(MIN_MTU, MAX_MTU)
tokens = st.from_regex(r"[A-Za-z0-9_-]{22,128}", fullmatch=True)
settings_of_rooms = st.builds(RoomSettings, mtus, policies, st.none() | tokens, st.none() | st.booleans())
room_names = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)


@given(
    st.builds(RoomSettings, mtus, policies),
    st.dictionaries(room_names, settings_of_rooms, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_what_is_shown_is_what_one_would_load_once_the_tokens_are_in(
    default: RoomSettings, named: dict[str, RoomSettings], open_rooms: bool, require_token: bool
) -> None:
    shown = show_rooms(RoomBook(default, named, open_rooms=open_rooms, require_token=require_token))
    for _, settings in sorted(named.items()):
        if settings.token is not None:
            assert settings.token not in shown
            shown = shown.replace(NOT_SHOWN, f'token = "{settings.token}"', 1)
    with tempfile.TemporaryDirectory() as directory:
        loaded = load(Path(directory), shown, default.mtu)
    assert everything(loaded) == (default, named)
    assert (loaded.open_rooms, loaded.require_token) == (open_rooms, require_token)


def test_what_is_shown_of_a_room_with_a_token_does_not_open_it_by_mistake(tmp_path: Path) -> None:
    shown = show_rooms(load(tmp_path, f'[rooms.den]\ntoken = "{TOKEN}"\n'))
    with pytest.raises(UsageError, match=r"rooms\.den\.token must be 22 to 128 characters"):
        load(tmp_path, shown)


def test_rooms_with_keys(tmp_path: Path) -> None:
    rooms = load(
        tmp_path,
        f"""
        open_rooms = false
        require_token = true

        [rooms.den]
        token = "{TOKEN}"
        sealed = true

        [rooms.attic]
        sealed = false

        [rooms.cellar]
        """,
    )
    assert (rooms.open_rooms, rooms.require_token) == (False, True)
    found = {name: (settings.token, settings.sealed) for name, settings in rooms.named.items()}
    assert found == {"den": (TOKEN, True), "attic": (None, False), "cellar": (None, None)}
    assert [rooms.has(name) for name in ("den", "cellar", "garage")] == [True, True, False]
    assert TOKEN not in repr(rooms.named)


def test_unless_told_otherwise_rooms_are_for_all(tmp_path: Path) -> None:
    rooms = load(tmp_path, "[rooms.den]\n")
    assert (rooms.open_rooms, rooms.require_token, rooms.has("garage")) == (True, False, True)
    assert (rooms.settings("garage").token, rooms.settings("den").sealed) == (None, None)


def test_without_a_file_the_defaults_are_in_force() -> None:
    assert everything(load_rooms(None, 1300)) == (RoomSettings(1300, Policy()), {})


def test_an_empty_file_is_as_none(tmp_path: Path) -> None:
    assert everything(load(tmp_path, "")) == everything(load_rooms(None, DEFAULT_ROOM_MTU))


def test_a_room_has_its_own_on_top_of_the_relays(tmp_path: Path) -> None:
    rooms = load(
        tmp_path,
        """
        [policy]
        broadcast_rate = 100        # a whole number is a rate too
        llc = false

        [rooms.attic]
        mtu = 1300

        [rooms.cellar.policy]
        ipv6_ra = false
        broadcast_rate = 7.5
        ethertypes = ["0x0800", 0x0806, "86dd"]

        [rooms.garage]
        """,
    )
    relays = Policy(broadcast_rate=100.0, llc=False)
    cellars = Policy(broadcast_rate=7.5, llc=False, ipv6_ra=False, ethertypes=frozenset((0x0800, 0x0806, 0x86DD)))
    assert everything(rooms) == (
        RoomSettings(DEFAULT_ROOM_MTU, relays),
        {
            "attic": RoomSettings(1300, relays),
            "cellar": RoomSettings(DEFAULT_ROOM_MTU, cellars),
            "garage": RoomSettings(DEFAULT_ROOM_MTU, relays),
        },
    )
    assert rooms.settings("another room").policy == relays


def test_a_room_may_take_back_what_the_relay_restricts(tmp_path: Path) -> None:
    rooms = load(tmp_path, '[policy]\nethertypes = ["0x0800"]\n[rooms.den.policy]\nethertypes = "all"\n')
    assert rooms.settings("den").policy == Policy()


@pytest.mark.parametrize("mtu", [MIN_MTU, MAX_MTU])
def test_the_mtus_bounds_are_allowed(tmp_path: Path, mtu: int) -> None:
    assert load(tmp_path, f"[rooms.den]\nmtu = {mtu}\n").settings("den").mtu == mtu


# What is wrong with it

WRONG = {
    "no TOML": ("[policy", []),
    "a value that is none": ("[policy]\njumbo = yes\n", ["line 2"]),
    "a key twice": ("[policy]\njumbo = true\njumbo = false\n", ["line 3"]),
    "a number without end": ("[policy]\nbroadcast_burst = " + "9" * 5000, []),
    "an unknown table": ("[polcy]\n", ["'polcy'", "open_rooms, require_token, policy, rooms"]),
    "a switch that is a number": ("open_rooms = 0\n", ["open_rooms", "true or false"]),
    "a switch that is a word": ('require_token = "yes"\n', ["require_token", "true or false"]),
    "a switch in the wrong place": ("[policy]\nopen_rooms = false\n", ["policy", "'open_rooms'"]),
    "a seal that is a word": ('[rooms.den]\nsealed = "yes"\n', ["rooms.den", "sealed", "true or false"]),
    "a token that is a number": ("[rooms.den]\ntoken = 7\n", ["rooms.den.token", "22 to 128"]),
    "a token that is guessed": ('[rooms.den]\ntoken = "letmein"\n', ["rooms.den.token", "22 to 128"]),
    "a token with a space": (f'[rooms.den]\ntoken = "{"x" * 30} "\n', ["rooms.den.token"]),
    "a token of two lines": (f'[rooms.den]\ntoken = "{"x" * 30}\\n"\n', ["rooms.den.token"]),
    "a token for all rooms": (f'token = "{TOKEN}"\n', ["'token'"]),
    "a policy that is no table": ("policy = true\n", ["policy", "[policy]"]),
    "rooms that are no table": ('rooms = ["den"]\n', ["rooms", "table"]),
    "a room that is no table": ("[rooms]\nden = 1\n", ["rooms.den", "table"]),
    "a room of several": ("[[rooms.den]]\n", ["rooms.den", "table"]),
    "a room with a space": ('[rooms."the den"]\n', ["the den", "1 to 32"]),
    "a room of two lines": ('[rooms."the\\nden"]\n', ["den", "1 to 32"]),
    "a room without a name": ('[rooms.""]\n', ["rooms", "1 to 32"]),
    "a room with a long name": (f"[rooms.{'x' * 33}]\n", ["x" * 33, "1 to 32"]),
    "an unknown setting of a room": ("[rooms.den]\nMTU = 1300\n", ["rooms.den", "'MTU'", "mtu, token, sealed, policy"]),
    "a room's policy that is no table": ("[rooms.den]\npolicy = false\n", ["rooms.den", "policy", "table"]),
    "an MTU that is small": (f"[rooms.den]\nmtu = {MIN_MTU - 1}\n", ["rooms.den.mtu", str(MIN_MTU), str(MAX_MTU)]),
    "an MTU that is large": (f"[rooms.den]\nmtu = {MAX_MTU + 1}\n", ["rooms.den.mtu", str(MIN_MTU), str(MAX_MTU)]),
    "an MTU that is no number": ('[rooms.den]\nmtu = "1300"\n', ["rooms.den.mtu"]),
    "an MTU with a point": ("[rooms.den]\nmtu = 1300.0\n", ["rooms.den.mtu"]),
    "an MTU that is a flag": ("[rooms.den]\nmtu = true\n", ["rooms.den.mtu"]),
    "an unknown rule": ("[policy]\ndhcp = true\n", ["policy", "'dhcp'", "dhcp_server"]),
    "an unknown rule of a room": ("[rooms.den.policy]\ndhcp = true\n", ["rooms.den.policy", "'dhcp'"]),
    "a flag that is a number": ("[policy]\njumbo = 1\n", ["policy.jumbo", "true or false"]),
    "a rate below zero": ("[policy]\ntotal_rate = -1\n", ["policy.total_rate", "-1"]),
    "a rate that is none": ("[policy]\ntotal_rate = nan\n", ["policy.total_rate"]),
    "a rate without end": ("[policy]\ntotal_rate = inf\n", ["policy.total_rate"]),
    "a rate that is a date": ("[policy]\ntotal_rate = 2030-01-01\n", ["policy.total_rate"]),
    "a burst of nothing": ("[rooms.den.policy]\nbroadcast_burst = 0\n", ["rooms.den.policy.broadcast_burst", "1"]),
    "a burst that stops large frames": ("[policy]\ntotal_burst = 65535\n", ["policy.total_burst", "65536"]),
    "an EtherType that is a length": ('[policy]\nethertypes = ["0x0500"]\n', ["policy.ethertypes", "0x0500"]),
    "an EtherType in two lines": ('[policy]\nethertypes = ["""a\nb"""]\n', ["policy.ethertypes"]),
    "all types refused": ('[policy]\nrefused_ethertypes = "all"\n', ["policy.refused_ethertypes"]),
    "a rule of two lines": ('[policy]\n"a\\nb" = 1\n', ["policy"]),
    "a table of two lines": ('["a\\nb"]\n', ["policy, rooms"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_one_line_that_names_file_and_key(tmp_path: Path, name: str) -> None:
    text, words = WRONG[name]
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    for word in ("relay.toml", *words):
        assert word in said
    assert TOKEN not in said
    assert "letmein" not in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml \(No such file or directory\); give --config"):
        load_rooms(tmp_path / "no.toml", DEFAULT_ROOM_MTU)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(str(tmp_path))):
        load_rooms(tmp_path, DEFAULT_ROOM_MTU)


def test_a_file_of_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_bytes("# f\xfcr alle\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"relay\.toml is no TOML"):
        load_rooms(tmp_path / "relay.toml", DEFAULT_ROOM_MTU)


# From the command line


def softlan(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "softlan", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
        cwd=directory,
        env={**environment(), "XDG_STATE_HOME": str(directory / "home"), "HOME": str(directory / "home")},
    )


def test_the_relay_prints_what_is_in_force_and_starts_nothing(tmp_path: Path) -> None:
    rooms = load(
        tmp_path, "[policy]\nllc = false\n[rooms.den]\nmtu = 1300\n[rooms.den.policy]\nipv6_ra = false\n", 1400
    )
    done = softlan(tmp_path, "relay", "--config", "relay.toml", "--room-mtu", "1400", "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == show_rooms(rooms) + "\n"
    assert everything(load(tmp_path, done.stdout, 1400)) == everything(rooms)
    assert not (tmp_path / "home").exists()


def test_without_a_file_it_prints_the_defaults(tmp_path: Path) -> None:
    done = softlan(tmp_path, "relay", "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "1418" in lines[0]
    assert lines[1:5] == ["open_rooms = true", "require_token = false", "", "[policy]"]
    assert [line.partition(" = ")[0] for line in lines[5:]] == [field.name for field in dataclasses.fields(Policy)]
    assert 'refused_ethertypes = ["0x8863", "0x8864"]' in lines


@pytest.mark.parametrize(
    "argv",
    [
        ("relay", "--listen", "127.0.0.1:0"),
        ("relay", "--print-config"),
        ("gateway", "--relay", "127.0.0.1", "--room", "DEN", "--iface", "lo"),
    ],
)
def test_a_wrong_file_ends_the_command(tmp_path: Path, argv: tuple[str, ...]) -> None:
    (tmp_path / "wrong.toml").write_text("[rooms.den.policy]\njumbo = 9\n")
    done = softlan(tmp_path, *argv, "--config", "wrong.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "softlan: wrong.toml: rooms.den.policy.jumbo: 9 is not true or false\n"
