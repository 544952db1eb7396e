"""What is fuzzed of joining a room: invitations, the relay's decision, sealed frames, the relay's config file."""

import base64
import hashlib
import tempfile
from pathlib import Path

import msgspec
from tests.support.packets import CLIENT, OTHER_CLIENT

from softlan.cli.config_file import NOT_SHOWN, load_rooms, show_rooms
from softlan.client.invitation import Invitation, parse
from softlan.ctrl.messages import BadMessage, Hello, Message, Reject, Role, decode, encode
from softlan.errors import UsageError
from softlan.net.address import HostPort
from softlan.policy.rules import Policy
from softlan.proto import overlay
from softlan.proto.drop import DropReason
from softlan.proto.keys import sender_key
from softlan.proto.seal import WINDOW, Opener, Sealer
from softlan.relay.admission import consider, opens
from softlan.relay.limits import RelayLimits, TokenBucket
from softlan.relay.room import Member, Room
from softlan.relay.settings import RoomBook, RoomSettings

_SECRET = bytes(range(100, 132))


def invitation(data: bytes) -> None:
    """Invitations: what is read says the same when it is written; else one line, which never shows what was given.

    With a first byte above 127 the rest is the text; else it is a payload that gets its checksum.
    """
    if not data:
        return
    payload = data[1:]
    if data[0] > 127:
        text = payload.decode("utf-8", "surrogateescape")
    else:
        whole = payload + hashlib.sha256(payload).digest()[:4]
        text = "softlan1_" + base64.urlsafe_b64encode(whole).rstrip(b"=").decode()
    try:
        found = parse(text)
    except UsageError as error:
        _check_line(error, text)
        return
    assert found.text() == "".join(text.split())
    assert parse("\r\n" + found.text()[:20] + "\n \t" + found.text()[20:]) == found
    assert found.secret is None or len(found.secret) == 32
    assert "secret" not in repr(found)


def _check_line(error: UsageError, hidden: str | None = None) -> None:
    line = str(error)
    assert hidden is None or len(hidden) < 12 or hidden not in line
    assert line.isprintable(), line
    assert len(line) > 10, line


_TOKEN = "t" * 43
_RESUME = "r" * 32
_LIMITS = (RelayLimits(), RelayLimits(max_room_peers=2, max_rooms=1, max_peers=3), RelayLimits(redirect="x:1"))


def hello(data: bytes) -> None:
    """The relay's decision on a hello: one answer, the same again, which fits the room and may be sent.

    Two bytes say what the room and the relay are like, the rest is the message.
    """
    if len(data) < 2:
        return
    try:
        said = decode(data[2:])
    except BadMessage:
        return
    if not isinstance(said, Hello):
        return
    how, limits = data[0], _LIMITS[data[1] % 3]
    settings = RoomSettings(
        (256, 1418, 9000)[data[1] // 3 % 3],
        Policy(),
        _TOKEN if how & 1 else None,
        (None, True, False)[data[1] // 9 % 3],
    )
    named = {said.room: settings} if how & 2 else {}
    book = RoomBook(RoomSettings(), named, open_rooms=not how & 4, require_token=bool(how & 8))
    room = _room(said, book, how) if how & 16 else None
    answer, again = (
        consider(
            said,
            room,
            limits,
            book,
            capacity=1440,
            rooms=how >> 7,
            peers=data[1] >> 6,
            shutting_down=how & 96 == 96,
        )
        for _ in range(2)
    )
    assert again == answer
    if isinstance(answer, Reject):
        assert decode(encode(answer)) == answer
        assert answer.message.isprintable()
        assert len(encode(answer)) < 1024
        return
    assert opens(said, room, book)
    mtu = room.mtu if room is not None else book.settings(said.room).mtu
    assert 46 <= answer.effective_mtu <= mtu
    assert answer.effective_mtu <= answer.budget <= min(1440, said.datagram_budget)
    wanted = book.settings(said.room).token or (room.token if room is not None else None)
    assert wanted in (None, said.room_token)
    assert room is None or room.sealed == (said.seal is not None)
    if answer.replaces is not None:
        assert answer.replaces.resume == said.resume
        assert answer.replaces.mac == said.mac_bytes


def _room(said: Hello, book: RoomBook, how: int) -> Room:
    """A room with a gateway and a client in it."""
    settings = book.settings(said.room)
    sealed = settings.sealed if settings.sealed is not None else bool(how & 32)
    room = Room(said.room, settings.mtu, settings.token or (_TOKEN if how & 64 else None), sealed=sealed)
    for role, mac in ((Role.GATEWAY, None), (Role.CLIENT, CLIENT)):
        room.add(
            Member(
                room.next_peer_id(),
                role,
                mac,
                budget=1440,
                effective_mtu=256,
                resume=_RESUME,
                software=None,
                port=_Nowhere(),
                probes=TokenBucket(1, 1, 0.0),
                rates=None,
                now=0.0,
                seal="00" * 16 if sealed else None,
            )
        )
    return room


class _Nowhere:
    """A member's connection that takes everything."""

    def send_datagram(self, data: bytes) -> bool:
        return True

    def send_message(self, message: Message) -> None:
        pass

    def end(self, reason: str) -> None:
        pass


_PEERS = {7: CLIENT, 8: OTHER_CLIENT, 1: None}
_ROOM_KEY = bytes(range(32))


def sealed(data: bytes) -> None:
    """Sealed frames: nothing raises, nothing opens but what was sealed, and that once, whoever comes and goes.

    The first byte says what the rest is: a datagram; a frame with one byte changed after it was sealed; or steps.
    """
    if not data:
        return
    mode, rest = data[0] % 3, data[1:]
    if mode == 0:
        opener = _opener()
        verdict = opener.open(rest)
        assert isinstance(verdict, DropReason)  # nobody has sealed it
        assert opener.open(rest) is verdict
    elif mode == 1:
        _one_changed(rest)
    else:
        _steps(rest)


def _opener() -> Opener:
    opener = Opener(_ROOM_KEY)
    for peer, mac in _PEERS.items():
        opener.add(peer, mac, _salt(peer))
    return opener


def _salt(peer: int) -> bytes:
    return bytes([peer]) * 16


def _sealer(peer: int) -> Sealer:
    return Sealer(sender_key(_ROOM_KEY, _salt(peer), _PEERS[peer]), overlay.header(overlay.Kind.SEALED, peer))


def _one_changed(data: bytes) -> None:
    """Three bytes: where, and how to change; then the frame, of the gateway or of a client."""
    if len(data) < 17:
        return
    at, change, frame = int.from_bytes(data[:2], "big"), data[2], data[3:]
    peer = next((peer for peer, mac in _PEERS.items() if mac == frame[6:12]), 1)
    datagram = bytearray(_sealer(peer).seal(frame))
    assert len(datagram) == len(frame) + 28
    opener = _opener()
    datagram[at % len(datagram)] ^= change
    opened = opener.open(bytes(datagram))
    if change:
        assert isinstance(opened, DropReason)
        datagram[at % len(datagram)] ^= change
        opened = opener.open(bytes(datagram))
    assert opened == frame
    assert opener.open(bytes(datagram)) is DropReason.REPLAYED


def _steps(data: bytes) -> None:
    """Pairs of bytes: what happens, and to whom; 100 of them are enough to leave the window behind."""
    data = data[:200]
    opener, sealers = _opener(), {peer: _sealer(peer) for peer in _PEERS}
    sent: list[tuple[int, int, bytes]] = []
    counts = dict.fromkeys(_PEERS, 0)
    opened: set[bytes] = set()
    peers = list(_PEERS)
    for what, whom in zip(data[::2], data[1::2], strict=False):
        peer = peers[whom % len(peers)]
        step = what % 6
        if step == 0:  # some frames, of which only one may arrive
            for _ in range(1 + what // 6):
                frame = bytes(6) + (_PEERS[peer] or OTHER_CLIENT) + b"\x08\x00" + bytes([whom])
                sent.append((peer, counts[peer], sealers[peer].seal(frame)))
                counts[peer] += 1
        elif step in (1, 2) and sent:  # the latest, or some other
            back = 1 + (whom if step == 1 else whom * what) % min(len(sent), 2 * WINDOW)
            sender, _, datagram = sent[-back]
            result = opener.open(datagram)
            if isinstance(result, bytes):
                assert datagram not in opened
                assert result == datagram[4:18] + result[14:]
                assert _PEERS[sender] in (None, result[6:12])
                opened.add(datagram)
        elif step == 3:
            opener.add(peer, _PEERS[peer], _salt(peer))
        elif step == 4:
            opener.remove(whom)
        else:  # a relay that confuses who is who
            opener.add(peer, _PEERS[peers[what % len(peers)]], _salt(peers[whom // 3 % len(peers)]))
    opener.reset()
    for _, _, datagram in sent[-20:]:
        assert opener.open(datagram) is DropReason.UNKNOWN_SENDER


def config(data: bytes) -> None:
    """The config file: one line about what is wrong, or rooms that print as a file which gives the same."""
    book = _loaded(data)
    if book is None:
        return
    shown = show_rooms(book)
    whole = shown
    for _, settings in sorted(book.named.items()):
        if settings.token is not None:
            assert settings.token not in shown
            whole = whole.replace(NOT_SHOWN, f'token = "{settings.token}"', 1)
    again = _loaded(whole.encode())
    assert again is not None, shown
    assert show_rooms(again) == shown
    assert again.default == book.default
    assert again.named == book.named
    assert (again.open_rooms, again.require_token) == (book.open_rooms, book.require_token)


def _loaded(content: bytes) -> RoomBook | None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        try:
            return load_rooms(Path(file.name), 1418)
        except UsageError as error:
            _check_line(error)
            return None


def _payload(found: Invitation) -> bytes:
    padded = found.text().removeprefix("softlan1_")
    return base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4))[:-4]


_INVITATIONS = (
    Invitation(HostPort("relay.example.net", 443), "ROOM1"),
    Invitation(HostPort("192.0.2.7", 4433), "den", "lanparty-relay.local", bytes(32), _SECRET),
    Invitation(HostPort("2001:db8::7", 443), "-_", "2001:db8::7", None, _SECRET),
)
_CONFIGS = (
    b"",
    b"[policy]\nbroadcast_rate = 100\nethertypes = ['0x0800']\n"
    b"[rooms.A]\nmtu = 1300\n[rooms.A.policy]\nipv6_ra = false\n",
    b"open_rooms = false\nrequire_token = true\n[rooms.ROOM1]\nsealed = true\n"
    b"token = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n",
    b"[rooms]\n'a-b' = {mtu = 1200, sealed = false}\n",
)
_MAC = CLIENT.hex(":").encode()
_HELLOS = (
    b'{"type":"hello","version":1,"role":"client","room":"den","mac":"%s","datagram_budget":1440}' % _MAC,
    b'{"type":"hello","version":1,"role":"client","room":"den","mac":"%s","datagram_budget":300,"resume":"%s",'
    b'"seal":"000102030405060708090a0b0c0d0e0f","room_token":"%s"}' % (_MAC, _RESUME.encode(), _TOKEN.encode()),
    b'{"type":"hello","version":1,"role":"gateway","room":"den","datagram_budget":9000,"room_token":"%s"}'
    % _TOKEN.encode(),
)
_FRAME = bytes(6) + CLIENT + b"\x08\x00" + b"payload" * 3

SEEDS: dict[str, list[bytes]] = {
    "invitation": [
        *(b"\x00" + _payload(found) for found in _INVITATIONS),
        *(b"\xff" + found.text().encode() for found in _INVITATIONS),
        b"\xffsoftlan2_AAAA",
        b"\x00" + msgspec.msgpack.encode(["relay", None, b"", "ROOM1", b"", 1]),
    ],
    "hello": [
        how + message
        for how in (b"\x00\x00", b"\x02\x09", b"\x13\x03", b"\x50\x01", b"\x30\x00", b"\x0c\x00")
        for message in _HELLOS
    ],
    "sealed": [
        b"\x00" + _sealer(7).seal(_FRAME)[:-1] + b"x",
        b"\x00" + overlay.header(overlay.Kind.SEALED, 9) + bytes(60),
        b"\x01\x00\x14\x01" + _FRAME,
        b"\x01\x00\x14\x00" + bytes(30),
        b"\x02" + bytes([0, 0, 1, 0, 1, 0, 3, 0, 1, 0, 4, 7, 1, 0, 255, 1, 2, 9, 2, 77]),
    ],
    "config": list(_CONFIGS),
}
