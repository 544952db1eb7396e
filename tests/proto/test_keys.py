import hashlib
import hmac

from tests.support import seal_vectors

from softlan.proto.keys import room_keys, sender_key

VECTORS = seal_vectors.load()
MAC = bytes.fromhex("02005e100001")
SALT = bytes(16)


def naive_hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, for 32 bytes: extract, and the first block of expand."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_the_oracle_is_right() -> None:
    """The beginning of RFC 5869, appendix A.1."""
    found = naive_hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert found.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_known_answers_of_a_room() -> None:
    keys = room_keys(VECTORS.secret, VECTORS.room)
    assert (keys.token, keys.frame_key) == (VECTORS.token, VECTORS.frame_key)
    assert keys.frame_key == naive_hkdf(VECTORS.secret, VECTORS.room.encode(), b"softlan/1 frame key")


def test_known_answers_of_senders() -> None:
    for sender in VECTORS.senders:
        assert sender_key(VECTORS.frame_key, sender.salt, sender.mac) == sender.key
        who = sender.mac if sender.mac is not None else b"gateway"
        assert sender.key == naive_hkdf(VECTORS.frame_key, sender.salt, b"softlan/1 sender " + who)


def test_the_token_fits_a_hello_and_a_shell() -> None:
    token = room_keys(bytes(32), "den").token
    assert len(token) == 43
    assert token.replace("-", "").replace("_", "").isalnum()


def test_every_room_and_every_use_has_keys_of_its_own() -> None:
    rooms = [room_keys(secret, room) for secret in (bytes(32), b"\x01" * 32) for room in ("den", "Den", "attic")]
    assert len({keys.token for keys in rooms}) == len({keys.frame_key for keys in rooms}) == 6
    keys = rooms[0].frame_key
    senders = [(SALT, MAC), (SALT, None), (SALT, b"\x02" * 6), (b"\x01" * 16, MAC), (b"\x01" * 16, None)]
    assert len({sender_key(keys, salt, mac) for salt, mac in senders}) == 5


def test_keys_are_not_printed() -> None:
    keys = room_keys(bytes(32), "den")
    assert keys.token not in repr(keys)
    assert repr(keys.frame_key) not in repr(keys)
