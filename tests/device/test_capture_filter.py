import ctypes
import socket
import struct
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Raw
from tests.device.cards import Far
from tests.device.kinds import is_tcp
from tests.device.namespaces import namespaces, wire

from softlan.device.capture_filter import capture_filter
from softlan.device.netdev import NetDevice

HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)  # linux/if_packet.h
SO_ATTACH_FILTER = 26
ETH_P_ALL = 3

ETHER = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
V4 = IP(src="192.168.7.1", dst="192.168.7.2")
V6 = IPv6(src="fd00::1", dst="fd00::2")
TCP_V4 = bytes(ETHER / V4 / TCP() / Raw(b"stream"))
TCP_V6 = bytes(ETHER / V6 / TCP() / Raw(b"stream"))
FRAMES = {
    "TCP in IPv4": (TCP_V4, True),
    "TCP in IPv6": (TCP_V6, True),
    "a later fragment of TCP": (bytes(ETHER / IP(proto=6, frag=100) / Raw(bytes(100))), True),
    "UDP in IPv4": (bytes(ETHER / V4 / UDP() / Raw(b"game")), False),
    "UDP in IPv6": (bytes(ETHER / V6 / UDP() / Raw(b"game")), False),
    "ICMP": (bytes(ETHER / V4 / ICMP()), False),
    "ARP": (bytes(ETHER / ARP()), False),
    "TCP behind an extension header": (bytes(ETHER / V6 / IPv6ExtHdrDestOpt() / TCP()), False),
    "IPv4 that ends before its protocol": (TCP_V4[:23], False),
    "IPv4 that ends behind its protocol": (TCP_V4[:24], True),
    "IPv6 that ends early": (TCP_V6[:23], False),
    "a header and nothing behind": (TCP_V4[:14], False),
    "802.3": (bytes(Dot3(src=ETHER.src, dst=ETHER.dst) / LLC() / SNAP() / Raw(bytes(9) + b"\x06" * 9)), False),
    "another protocol": (bytes(ETHER)[:12] + b"\x88\xb5" + b"\x06" * 46, False),
}
VLANS = {
    "UDP in a VLAN": bytes(ETHER / Dot1Q(vlan=7) / V4 / UDP() / Raw(b"game")),
    "TCP in a VLAN": bytes(ETHER / Dot1Q(vlan=7) / V4 / TCP() / Raw(b"stream")),
    "TCP in a provider's VLAN": bytes(ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V4 / TCP() / Raw(b"stream")),
}


def run(program: bytes, frame: bytes, packet_type: int) -> int:
    """What the program makes of a frame: how many bytes of it to take."""
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        match code:
            case 0x28 | 0x30 if operand < 0xFFFFF000:  # BPF_LD | BPF_H or BPF_B | BPF_ABS
                size = 2 if code == 0x28 else 1
                if operand + size > len(frame):
                    return 0
                accumulator = int.from_bytes(frame[operand : operand + size], "big")
            case 0x28 if operand == 0xFFFFF004:  # SKF_AD_OFF + SKF_AD_PKTTYPE
                accumulator = packet_type
            case 0x80:  # BPF_LD | BPF_W | BPF_LEN
                accumulator = len(frame)
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                at += if_true if accumulator == operand else if_false
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                at += if_true if accumulator >= operand else if_false
            case 0x06:  # BPF_RET | BPF_K
                return int(operand)
            case _:
                raise AssertionError(f"no such instruction here: {code:#x}")


def taken_by(frame: bytes, packet_type: int) -> list[bool]:
    """The `tcp` of the programs that take the whole frame; the others take nothing of it."""
    lengths = {tcp: run(capture_filter(tcp=tcp), frame, packet_type) for tcp in (False, True)}
    assert set(lengths.values()) <= {0, 0xFFFFFFFF}
    return [tcp for tcp, length in lengths.items() if length]


@pytest.mark.parametrize(("frame", "tcp"), FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("packet_type", [BROADCAST, MULTICAST, OTHERHOST])
def test_each_frame_of_the_lan_is_taken_by_one(frame: bytes, tcp: bool, packet_type: int) -> None:
    assert taken_by(frame, packet_type) == [tcp]


@pytest.mark.parametrize("frame", [frame for frame, _ in FRAMES.values()], ids=FRAMES)
@pytest.mark.parametrize("packet_type", [HOST, OUTGOING])
def test_what_is_for_the_machine_or_from_it_is_taken_by_none(frame: bytes, packet_type: int) -> None:
    assert taken_by(frame, packet_type) == []


@given(
    addresses=st.binary(min_size=12, max_size=12),
    kind=st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00"]) | st.binary(min_size=2, max_size=2),
    rest=st.lists(st.sampled_from([0, 6, 17, 0x45]) | st.integers(0, 255), max_size=60),
)
def test_they_part_as_the_tap_parts_what_it_writes(addresses: bytes, kind: bytes, rest: list[int]) -> None:
    frame = addresses + kind + bytes(rest)
    taken = taken_by(frame, OTHERHOST)
    assert len(taken) == 1
    if len(frame) >= 24:
        assert taken == [is_tcp(frame)]


@pytest.mark.netns
def test_the_kernel_runs_them_so() -> None:
    with namespaces(2) as (box, lan), ExitStack() as stack:
        for namespace in (box, lan):
            with namespace.entered():
                Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        wire(box, "lan0", lan, "far0")
        with lan.entered():
            far = stack.enter_context(closing(Far("far0")))
        with box.entered():
            own = stack.enter_context(closing(Far("lan0")))
            with NetDevice("lan0") as card:
                _, own_address = card.hardware()
            sockets = []
            for tcp in (False, True):
                sock = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                program = capture_filter(tcp=tcp)
                memory = ctypes.create_string_buffer(program, len(program))
                fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
                sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
                sock.bind(("lan0", ETH_P_ALL))
                sock.setblocking(False)
                sockets.append(sock)

        def waiting() -> list[bytes | None]:
            found: list[bytes | None] = []
            for sock in sockets:
                try:
                    found.append(sock.recv(2000))
                except BlockingIOError:
                    found.append(None)
            return found

        # What is sent into a veth pair was received at its other end when the call returns.
        for frame, tcp in FRAMES.values():
            far.send(frame)
            assert waiting() == ([None, frame] if tcp else [frame, None])
            assert waiting() == [None, None]
            far.send(own_address + frame[6:])
            own.send(frame)
            assert waiting() == [None, None]
        for frame in VLANS.values():
            far.send(frame)
            assert sum(one is not None for one in waiting()) == 1
            assert waiting() == [None, None]
