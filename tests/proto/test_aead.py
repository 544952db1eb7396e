"""AES-256-GCM by counter: the book's answers from both implementations, and which of them is taken."""

from types import SimpleNamespace
from typing import Any

import pytest
import qh3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import seal_vectors

from softlan.proto import aead
from softlan.proto.aead import Choice, choose

LIBRARY = qh3._hazmat
PUBLIC = choose(None)
NATIVE = choose(LIBRARY)
BOTH = pytest.mark.parametrize("choice", [NATIVE, PUBLIC], ids=["the QUIC library's", "the public one"])
KEY = bytes(range(32))
LAST = 2**64 - 1

counters = st.integers(0, LAST) | st.sampled_from([0, 1, 2**31, 2**32, 2**62 - 1, 2**62, 2**63 - 1, 2**63, LAST])
some_bytes = st.binary(max_size=100)


def oracle(key: bytes, counter: int, data: bytes, additional: bytes) -> bytes:
    """`cryptography`'s AES-GCM, by its nonce."""
    return AESGCM(key).encrypt(counter.to_bytes(12, "big"), data, additional)


# Known answers


@BOTH
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        ("", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00" * 16, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ],
    ids=["test case 13", "test case 14"],
)
def test_those_whose_nonce_is_zeros(choice: Choice, data: str, answer: str) -> None:
    """McGrew and Viega, The Galois/Counter Mode of Operation, appendix B."""
    one, plain, sealed = choice.cipher(bytes(32)), bytes.fromhex(data), bytes.fromhex(answer)
    assert one.encrypt(0, plain, b"") == sealed
    assert one.decrypt(0, sealed, b"") == plain


@BOTH
def test_those_of_sealed_frames(choice: Choice) -> None:
    """Which OpenSSL has made."""
    for sender in seal_vectors.load().senders:
        one = choice.cipher(sender.key)
        for each in sender.frames:
            start, sealed, rest = each.datagram[:18], each.datagram[26:], each.frame[14:]
            assert one.encrypt(each.counter, rest, start) == sealed
            assert one.decrypt(each.counter, sealed, start) == rest


def test_the_one_of_the_start_is_right() -> None:
    assert oracle(aead._KEY, aead._COUNTER, aead._DATA, aead._ADDITIONAL) == aead._ANSWER
    assert len(set(aead._COUNTER.to_bytes(8, "big"))) == 8
    assert aead._COUNTER >= 2**63


# Both implementations


@BOTH
@settings(max_examples=300)
@given(key=st.binary(min_size=32, max_size=32), counter=counters, data=some_bytes, additional=some_bytes)
def test_each_is_gcm_with_the_counter_as_nonce(
    choice: Choice, key: bytes, counter: int, data: bytes, additional: bytes
) -> None:
    one, sealed = choice.cipher(key), oracle(key, counter, data, additional)
    assert one.encrypt(counter, data, additional) == sealed
    assert one.decrypt(counter, sealed, additional) == data


@BOTH
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1394, 65535])
def test_each_takes_any_size(choice: Choice, size: int) -> None:
    one, data = choice.cipher(KEY), bytes(size)
    sealed = one.encrypt(LAST, data, data)
    assert sealed == oracle(KEY, LAST, data, data)
    assert one.decrypt(LAST, sealed, data) == data


@BOTH
@settings(max_examples=20)
@given(counter=counters, data=st.binary(max_size=40), additional=st.binary(max_size=18))
def test_each_refuses_whatever_has_one_bit_changed(
    choice: Choice, counter: int, data: bytes, additional: bytes
) -> None:
    one = choice.cipher(KEY)
    sealed = one.encrypt(counter, data, additional)
    whole = counter.to_bytes(8, "big") + additional + sealed
    middle = 8 + len(additional)
    for bit in range(8 * len(whole)):
        forged = (int.from_bytes(whole, "big") ^ 1 << bit).to_bytes(len(whole), "big")
        with pytest.raises(choice.refused):
            one.decrypt(int.from_bytes(forged[:8], "big"), forged[middle:], forged[8:middle])


@BOTH
@settings(max_examples=300)
@given(counter=counters, noise=some_bytes, additional=some_bytes)
def test_each_refuses_noise(choice: Choice, counter: int, noise: bytes, additional: bytes) -> None:
    with pytest.raises(choice.refused):
        choice.cipher(KEY).decrypt(counter, noise, additional)


@BOTH
@pytest.mark.parametrize("size", range(16))
def test_each_refuses_what_is_shorter_than_a_tag(choice: Choice, size: int) -> None:
    one = choice.cipher(KEY)
    for data in (bytes(size), one.encrypt(0, b"", b"")[:size]):
        with pytest.raises(choice.refused):
            one.decrypt(0, data, b"")


@BOTH
@pytest.mark.parametrize("counter", [-1, LAST + 1])
def test_no_counter_begins_again(choice: Choice, counter: int) -> None:
    with pytest.raises(OverflowError):
        choice.cipher(KEY).encrypt(counter, b"", b"")


# Which one


def test_the_library_that_is_installed_is_as_we_know_it() -> None:
    assert NATIVE.refused is LIBRARY.CryptoError
    assert isinstance(NATIVE.cipher(KEY), LIBRARY.AeadAes256Gcm)
    assert aead.REFUSED is LIBRARY.CryptoError
    assert isinstance(aead.cipher(KEY), LIBRARY.AeadAes256Gcm)


class Like:
    """The library's class as it is, for others to differ from."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self.inner = LIBRARY.AeadAes256Gcm(key, iv)

    def encrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return bytes(self.inner.encrypt(counter, data, additional))

    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return bytes(self.inner.decrypt(counter, data, additional))


class OtherNonce(Like):
    def __init__(self, key: bytes, iv: bytes) -> None:
        super().__init__(key, b"\x01" + iv[1:])


class OtherOrder(Like):
    def encrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return super().encrypt(counter, additional, data)

    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return super().decrypt(counter, additional, data)


class PacketNumbersOnly(Like):
    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return super().decrypt(counter % 2**62, data, additional)


class SealsOnly(Like):
    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        return data[:-16]


class Trusting(Like):
    """Opens with whatever tag."""

    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        # GCM is counter mode: what is encrypted twice is as it was (SP 800-38D, section 7).
        return super().encrypt(counter, data[:-16], additional)[:-16]


class OtherError(Like):
    def decrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        try:
            return super().decrypt(counter, data, additional)
        except LIBRARY.CryptoError:
            raise ValueError from None


class OtherArguments:
    def __init__(self, key: bytes) -> None:
        self.key = key


class Panic(BaseException):
    """As a native library raises it."""


class Panicking(Like):
    def encrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
        raise Panic


def library(aes: object, error: object = LIBRARY.CryptoError) -> SimpleNamespace:
    return SimpleNamespace(AeadAes256Gcm=aes, CryptoError=error)


def test_what_gives_the_known_answer_is_taken() -> None:
    assert isinstance(choose(library(Like)).cipher(KEY), Like)


@pytest.mark.parametrize(
    "other",
    [
        None,
        SimpleNamespace(CryptoError=LIBRARY.CryptoError),
        SimpleNamespace(AeadAes256Gcm=Like),
        library(Like, error=ValueError),
        library(Like, error="no class"),
        library(None),
        library(object),
        *map(library, (OtherNonce, OtherOrder, PacketNumbersOnly, SealsOnly, Trusting, OtherError, OtherArguments)),
        library(Panicking),
    ],
    ids=lambda other: getattr(getattr(other, "AeadAes256Gcm", None), "__name__", None),
)
def test_for_everything_else_there_is_the_public_one(other: Any) -> None:
    chosen = choose(other)
    assert chosen.refused is InvalidTag
    assert chosen.cipher(KEY).encrypt(5, b"data", b"additional") == oracle(KEY, 5, b"data", b"additional")


def test_who_interrupts_the_choice_is_heard() -> None:
    class Interrupted(Like):
        def encrypt(self, counter: int, data: bytes, additional: bytes) -> bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(library(Interrupted))
