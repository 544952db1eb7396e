"""Sealed frames: what is opened, what is not, and that nothing is opened twice."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support import seal_vectors

from softlan.proto import aead, seal
from softlan.proto.drop import DropReason
from softlan.proto.keys import sender_key
from softlan.proto.overlay import Kind, header
from softlan.proto.seal import WINDOW, Opener, Sealer

VECTORS = seal_vectors.load()
FRAME_KEY = bytes(range(32))
MAC, OTHER = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")
SALT, NEXT_SALT = b"\xa0" * 16, b"\xb0" * 16
PEER = 7
FRAME = b"\xff" * 6 + MAC + b"\x08\x00" + b"to everyone, for the room's ears only"

bodies = st.binary(max_size=200)


def sealer(mac: bytes | None = MAC, salt: bytes = SALT, *, peer: int = PEER, key: bytes = FRAME_KEY) -> Sealer:
    return Sealer(sender_key(key, salt, mac), header(Kind.SEALED, peer))


def opener(mac: bytes | None = MAC, salt: bytes = SALT, *, peer: int = PEER, key: bytes = FRAME_KEY) -> Opener:
    one = Opener(key)
    one.add(peer, mac, salt)
    return one


def sealed(count: int, start: Sealer | None = None) -> list[tuple[bytes, bytes]]:
    """Frames with their datagrams, numbered."""
    one = start or sealer()
    frames = [FRAME + b" %d" % number for number in range(count)]
    return [(frame, one.seal(frame)) for frame in frames]


# Against the book


def naive_gcm(key: bytes, nonce: bytes, plain: bytes, additional: bytes) -> bytes:
    """AES-GCM by NIST SP 800-38D, bit by bit, of nothing but single AES blocks: section 7.1."""

    def block(data: bytes) -> bytes:
        encryptor = Cipher(AES256(key), ECB()).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    def times(x: int, y: int) -> int:
        product = 0
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                product ^= y
            y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
        return product

    def blocks(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), 16):
            yield data[start : start + 16]

    cipher = b""
    for number, part in enumerate(blocks(plain), 2):
        stream = block(nonce + number.to_bytes(4, "big"))
        cipher += bytes(a ^ b for a, b in zip(part, stream, strict=False))
    subkey, hashed = int.from_bytes(block(bytes(16)), "big"), 0
    lengths = (8 * len(additional)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")
    for part in (*blocks(additional), *blocks(cipher), lengths):
        hashed = times(hashed ^ int.from_bytes(part.ljust(16, b"\0"), "big"), subkey)
    tag = hashed ^ int.from_bytes(block(nonce + b"\0\0\0\x01"), "big")
    return cipher + tag.to_bytes(16, "big")


@pytest.mark.parametrize("sender", VECTORS.senders, ids=["a client", "a gateway"])
def test_known_answers(sender: seal_vectors.Sender) -> None:
    one, other = Sealer(sender.key, header(Kind.SEALED, sender.peer_id)), Opener(VECTORS.frame_key)
    other.add(sender.peer_id, sender.mac, sender.salt)
    for number, each in enumerate(sender.frames):
        if each.counter == number:
            assert one.seal(each.frame) == each.datagram
        assert other.open(each.datagram) == each.frame


@pytest.mark.parametrize("sender", VECTORS.senders, ids=["a client", "a gateway"])
def test_known_answers_of_the_public_cipher(sender: seal_vectors.Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the QUIC library has none that we know, `cryptography` seals."""
    public = aead.choose(None)
    monkeypatch.setattr(seal, "cipher", public.cipher)
    monkeypatch.setattr(seal, "REFUSED", public.refused)
    test_known_answers(sender)
    test_what_someone_else_sealed_is_a_bad_seal("another room")


@pytest.mark.parametrize("sender", VECTORS.senders, ids=["a client", "a gateway"])
def test_the_known_answers_are_right(sender: seal_vectors.Sender) -> None:
    for each in sender.frames:
        start, counter = bytes((0x11, 0)) + sender.peer_id.to_bytes(2, "big") + each.frame[:14], each.counter
        body = naive_gcm(sender.key, bytes(4) + counter.to_bytes(8, "big"), each.frame[14:], start)
        assert each.datagram == start + counter.to_bytes(8, "big") + body


def test_the_documented_answers_are_these() -> None:
    page = "".join((Path(__file__).parents[2] / "docs/reference/protocol.md").read_text().split())
    for sender in VECTORS.senders:
        first = sender.frames[0]
        for value in (VECTORS.frame_key, sender.salt, sender.key, first.frame, first.datagram):
            assert value.hex() in page
    assert VECTORS.token in page


@settings(max_examples=50)
@given(bodies)
def test_the_layout_is_as_documented(body: bytes) -> None:
    datagram = sealer().seal(FRAME[:14] + body)
    assert datagram[:26] == b"\x11\x00\x00\x07" + FRAME[:14] + bytes(8)
    assert datagram[26:] == naive_gcm(sender_key(FRAME_KEY, SALT, MAC), bytes(12), body, datagram[:18])


# Opening


@given(bodies, st.sampled_from([MAC, None]))
def test_what_was_sealed_is_opened(body: bytes, mac: bytes | None) -> None:
    frame = FRAME[:14] + body
    assert opener(mac).open(sealer(mac).seal(frame)) == frame


def test_nothing_of_the_payload_is_to_be_seen() -> None:
    datagram = sealer().seal(FRAME)
    pieces = {FRAME[start : start + 4] for start in range(14, len(FRAME) - 3)}
    assert not [piece for piece in pieces if piece in datagram]


def test_the_same_frame_never_looks_the_same() -> None:
    one, again = sealer(), sealer(salt=NEXT_SALT)
    bodies = {each.seal(FRAME)[26:] for each in (one, one, again, again)}
    assert len(bodies) == 4


@settings(max_examples=20)
@given(bodies)
def test_any_bit_that_was_changed_on_the_way_is_noticed(body: bytes) -> None:
    datagram = sealer().seal(FRAME[:14] + body)
    one = opener()
    for bit in range(8 * len(datagram)):
        forged = bytearray(datagram)
        forged[bit // 8] ^= 1 << bit % 8
        assert isinstance(one.open(bytes(forged)), DropReason)
    assert one.open(datagram) == FRAME[:14] + body, "nothing forged counts as seen"


@given(st.data())
def test_what_is_cut_lengthened_or_spliced_is_noticed(data: st.DataObject) -> None:
    one = sealer()
    first, second = one.seal(FRAME), one.seal(FRAME[::-1][:14] + FRAME)
    cut = data.draw(st.integers(0, len(first) - 1))
    assert isinstance(opener().open(first[:cut]), DropReason)
    assert opener().open(first + data.draw(st.binary(min_size=1, max_size=20))) is DropReason.BAD_SEAL
    assert isinstance(opener().open(first[:cut] + second[cut:]), DropReason) or cut <= 4  # to there they are alike


FOREIGN = {
    "another room": sealer(key=bytes(32)),
    "another session of it": sealer(salt=NEXT_SALT),
    "another player": sealer(mac=OTHER),
    "the gateway": sealer(mac=None),
}


@pytest.mark.parametrize("whose", FOREIGN)
def test_what_someone_else_sealed_is_a_bad_seal(whose: str) -> None:
    assert opener().open(FOREIGN[whose].seal(FRAME)) is DropReason.BAD_SEAL


def test_a_client_speaks_for_its_own_mac_only() -> None:
    frame = FRAME[:6] + OTHER + FRAME[12:]
    one = opener()
    datagram = sealer().seal(frame)
    assert [one.open(datagram), one.open(datagram)] == [DropReason.INVALID_SOURCE] * 2
    assert opener(mac=None).open(sealer(mac=None).seal(frame)) == frame, "a gateway speaks for its LAN"


def test_who_is_not_there_is_unknown() -> None:
    one, datagram = opener(), sealer().seal(FRAME)
    assert one.open(sealer(peer=8).seal(FRAME)) is DropReason.UNKNOWN_SENDER
    one.remove(PEER)
    one.remove(PEER)
    assert one.open(datagram) is DropReason.UNKNOWN_SENDER
    one.add(PEER, MAC, SALT)
    assert one.open(datagram) == FRAME
    one.reset()
    assert one.open(datagram) is DropReason.UNKNOWN_SENDER


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x11",
        header(Kind.SEALED, PEER) + bytes(37),
        header(Kind.ETHERNET, PEER) + bytes(60),
        b"\x11\x80" + bytes(60),
    ],
    ids=["empty", "one byte", "too short", "a plain frame", "a flag"],
)
def test_what_is_no_sealed_frame_is_malformed(datagram: bytes) -> None:
    assert opener().open(datagram) is DropReason.MALFORMED
    assert Opener(FRAME_KEY).open(datagram) is DropReason.MALFORMED


@settings(max_examples=500)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda body: header(Kind.SEALED, PEER) + body))
def test_noise_is_nothing_but_a_reason(noise: bytes) -> None:
    assert isinstance(opener().open(noise), DropReason)


def test_a_hundred_thousand_datagrams_of_noise() -> None:
    """Random bytes, and good datagrams that were damaged: none opens, none raises, and the next good one does."""
    dice = random.Random(6)
    one, author = opener(), sealer()
    good = [author.seal(FRAME + dice.randbytes(dice.randrange(60))) for _ in range(50)]
    for number in range(100_000):
        if number % 2:
            noise = bytearray(dice.choice(good))
            noise[dice.randrange(len(noise))] ^= dice.randrange(1, 256)
            datagram = bytes(noise[: dice.randrange(len(noise)) if number % 5 == 0 else len(noise)])
        else:
            datagram = header(Kind.SEALED, PEER)[: dice.randrange(5)] + dice.randbytes(dice.randrange(100))
        assert isinstance(one.open(datagram), DropReason)
    assert all(isinstance(one.open(datagram), bytes) for datagram in good)


# Replay


def test_a_frame_is_taken_once() -> None:
    one = opener()
    for frame, datagram in sealed(3):
        assert one.open(datagram) == frame
        assert one.open(datagram) is DropReason.REPLAYED


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, WINDOW))
def test_loss_and_reordering_within_the_window_cost_nothing(seed: int, window: int) -> None:
    dice = random.Random(seed)
    sent = sealed(2 * WINDOW)
    arriving = [number for number in range(len(sent)) if dice.random() < 0.9]
    arriving.sort(key=lambda number: number + dice.random() * (window - 1))  # late by less than the window
    one = opener()
    for number in arriving:
        frame, datagram = sent[number]
        assert one.open(datagram) == frame
    assert all(one.open(sent[number][1]) is DropReason.REPLAYED for number in arriving)


def test_what_is_later_than_the_window_is_refused() -> None:
    sent = sealed(WINDOW + 2)
    one = opener()
    assert one.open(sent[WINDOW][1]) == sent[WINDOW][0]
    assert one.open(sent[0][1]) is DropReason.REPLAYED
    assert one.open(sent[1][1]) == sent[1][0]
    assert one.open(sent[WINDOW + 1][1]) == sent[WINDOW + 1][0]
    assert one.open(sent[2][1]) == sent[2][0]
    assert one.open(sent[1][1]) is DropReason.REPLAYED


counters = st.integers(0, 3 * WINDOW) | st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1])


@settings(max_examples=200)
@given(st.lists(counters | st.integers(-2 * WINDOW, 2 * WINDOW).map(lambda step: -step), max_size=60))
def test_the_window_is_that_of_a_naive_set(moves: list[int]) -> None:
    """Small steps are taken from the highest counter so far, as far as they do not leave what counters can be."""
    author, one = sealer(), opener()
    seen: set[int] = set()
    for move in moves:
        counter = min(max(move if move > 3 * WINDOW else max(seen, default=0) + move, 0), 2**64 - 1)
        author._counter = counter
        is_new = counter not in seen and counter > max(seen, default=-1) - WINDOW
        assert one.open(author.seal(FRAME)) == (FRAME if is_new else DropReason.REPLAYED)
        seen.add(counter)


def test_a_forged_counter_moves_nothing() -> None:
    sent = sealed(2)
    one = opener()
    far = sent[1][1][:18] + b"\xff" * 8 + sent[1][1][26:]
    assert one.open(far) is DropReason.BAD_SEAL
    assert [one.open(datagram) for _, datagram in sent] == [frame for frame, _ in sent]


# Sessions


def test_a_session_that_goes_on_over_ours_is_not_taken_twice() -> None:
    """We have lost our own session and come back; the other is still there, with the same salt."""
    sent = sealed(20)
    one = opener()
    for _, datagram in sent[:10]:
        one.open(datagram)
    one.reset()
    one.add(PEER, MAC, SALT)
    assert [one.open(datagram) for _, datagram in sent[:10]] == [DropReason.REPLAYED] * 10
    assert [one.open(datagram) for _, datagram in sent[10:]] == [frame for frame, _ in sent[10:]]


@pytest.mark.parametrize("count", [1, 10, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW])
def test_a_session_that_ended_is_not_shown_again(count: int) -> None:
    author = sealer()
    old = sealed(count, author)
    one = opener()
    for _, datagram in old:
        one.open(datagram)
    one.add(PEER, MAC, NEXT_SALT)  # the player has come back with a new one
    assert isinstance(one.open(sealer(salt=NEXT_SALT).seal(FRAME)), bytes)
    one.add(PEER, MAC, SALT)
    assert {one.open(datagram) for _, datagram in old} == {DropReason.REPLAYED}
    assert one.open(author.seal(FRAME)) == FRAME, "only what came after that would be new"


def test_one_session_under_two_names_is_still_one() -> None:
    author, at_nine = sealer(), sealer(peer=9)
    one = opener()
    for _, datagram in sealed(5, author):
        one.open(datagram)
    one.add(9, MAC, SALT)
    assert one.open(author.seal(FRAME)) is DropReason.UNKNOWN_SENDER
    assert one.open(at_nine.seal(FRAME)) is DropReason.REPLAYED


def test_what_is_remembered_of_old_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "REMEMBERED", 8)
    one = Opener(FRAME_KEY)
    salts = [bytes((number,)) * 16 for number in range(12)]
    datagrams = [sealer(salt=salt).seal(FRAME) for salt in salts]
    for salt, datagram in zip(salts, datagrams, strict=True):
        one.add(PEER, MAC, salt)
        assert one.open(datagram) == FRAME
    one.remove(PEER)
    for salt in salts:  # of whom nothing is known, nothing is remembered
        one.add(99, OTHER, salt)
    for salt, datagram in list(zip(salts, datagrams, strict=True))[4:]:
        one.add(PEER, MAC, salt)
        assert one.open(datagram) is DropReason.REPLAYED


class Rooms(RuleBasedStateMachine):
    """Sessions that come and go and are shown again, against a set of everything that was ever taken."""

    def __init__(self) -> None:
        super().__init__()
        self.opener = Opener(FRAME_KEY)
        self.sealers = {salt: sealer(salt=bytes((salt,)) * 16) for salt in range(3)}
        self.sent: dict[int, list[bytes]] = {salt: [] for salt in range(3)}
        self.taken: list[bytes] = []

    @rule(salt=st.integers(0, 2), peer=st.sampled_from([PEER, PEER, 9]), mac=st.sampled_from([MAC, MAC, None]))
    def come(self, salt: int, peer: int, mac: bytes | None) -> None:
        self.opener.add(peer, mac, bytes((salt,)) * 16)

    @rule(peer=st.sampled_from([PEER, 9]))
    def leave(self, peer: int) -> None:
        self.opener.remove(peer)

    @rule(salt=st.integers(0, 2), frames=st.sampled_from([1, WINDOW - 1, WINDOW, WINDOW + 1, 2**63 - 1]))
    def lose(self, salt: int, frames: int) -> None:
        sealing = self.sealers[salt]
        sealing._counter = min(sealing._counter + frames, 2**63)

    @rule()
    def begin_anew(self) -> None:
        self.opener.reset()

    @rule(salt=st.integers(0, 2), count=st.integers(1, 30))
    def seal(self, salt: int, count: int) -> None:
        self.sent[salt] += [self.sealers[salt].seal(FRAME) for _ in range(count)]

    @rule(salt=st.integers(0, 2), seed=st.integers(0, 2**32))
    def deliver(self, salt: int, seed: int) -> None:
        dice = random.Random(seed)
        for datagram in dice.sample(self.sent[salt], k=len(self.sent[salt]) // 2):
            if isinstance(self.opener.open(datagram), bytes):
                self.taken.append(datagram)

    @invariant()
    def nothing_is_taken_twice(self) -> None:
        assert len(self.taken) == len(set(self.taken))


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=50, stateful_step_count=30)
