"""The routes and addresses of a Linux host, over rtnetlink (rtnetlink(7)) with pyroute2's messages.

pyroute2's own `IPRoute` runs an event loop for each call, which a caller inside a running loop may not do.
A question to the kernel is answered before `sendto` returns, so a plain socket does it as well.
"""

import errno
import ipaddress
import os
import socket
import struct
from typing import Any

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETADDR, RTM_GETROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_DADFAILED, IFA_F_TENTATIVE, ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress, IPInterface, IPNetwork

ROUTE_PROTOCOL = 98
"""The mark of our routes: `ip route show proto 98` lists them. None that `/etc/iproute2/rt_protos` names."""

_MAIN = 254
_UNICAST = 1
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_RTNH_F_ONLINK = 4
_UNUSABLE = 1 | 16  # RTNH_F_DEAD, RTNH_F_LINKDOWN
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ERROR = struct.Struct("=i")
_RECEIVE_LIMIT = 1 << 16
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
"""What the kernel answers for no route, and for unreachable, prohibit and blackhole routes."""
_TIMEOUT = 5.0


class LinuxNetwork:
    """A `HostNetwork` for the network namespace that the calling thread is in."""

    def best_route(self, destination: IPAddress) -> HostRoute | None:
        """What the kernel would do with a packet to `destination` now, its policy rules included."""
        message = _message(destination)
        message["dst_len"] = destination.max_prefixlen
        message["attrs"].append(("RTA_DST", _text(destination)))
        try:
            answer = _request(RTM_GETROUTE, 0, message)[0]
            if answer["type"] != _UNICAST:
                return None
            return _route(answer, _network(destination, destination.max_prefixlen))
        except OSError as error:
            if error.errno in _UNREACHABLE:
                return None
            raise _error("find route", f"cannot find the route to {destination}", error) from error

    def add_route(self, route: HostRoute) -> None:
        """Add `route` to the main table, marked as ours."""
        try:
            message = _route_message(route)
            message["type"] = _UNICAST
            message["scope"] = _SCOPE_UNIVERSE
            if route.gateway is None and route.destination.version == 4:
                message["scope"] = _SCOPE_LINK
            if route.gateway is not None and route.destination.version == 4:
                # The gateway need not be in a subnet of ours: providers set up such links with `onlink`.
                message["flags"] = _RTNH_F_ONLINK
            _request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, message)
        except OSError as error:
            raise _error("add route", f"cannot add the route {route}", error) from error

    def delete_route(self, route: HostRoute) -> None:
        """Delete `route`; the kernel compares the mark too, so another's stays."""
        try:
            _request(RTM_DELROUTE, NLM_F_ACK, _route_message(route))
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENODEV, errno.ENXIO):
                raise _error("delete route", f"cannot delete the route {route}", error) from error

    def has_route(self, route: HostRoute) -> bool:
        """Whether the main table has a route like `route`, whoever added it."""
        try:
            message = _message(route.destination)
            message["table"] = _MAIN
            message["attrs"].append(("RTA_OIF", _index(route.interface)))
            return any(_is(answer, route) for answer in _request(RTM_GETROUTE, NLM_F_DUMP, message))
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return False
            raise _error("list routes", "cannot list the routes", error) from error

    def usual_route(self, pin: HostRoute, tunnel_interface: str) -> HostRoute | None:
        """The main table's route of the longest prefix, then the smallest metric; none without a carrier counts.

        Routes with several hops are passed over, and policy rules: what they would say without the pin, and without
        the tunnel, cannot be asked.
        """
        relay = pin.destination.network_address
        try:
            message = _message(relay)
            message["table"] = _MAIN
            answers = _request(RTM_GETROUTE, NLM_F_DUMP, message)
        except OSError as error:
            raise _error("list routes", "cannot list the routes", error) from error
        best: tuple[int, int] | None = None
        found: HostRoute | None = None
        for answer in answers:
            rank = (-answer["dst_len"], answer.get_attr("RTA_PRIORITY") or 0)
            if not _may_lead(answer, relay) or (best is not None and rank >= best):
                continue
            route = _route(answer, pin.destination)
            is_pin = answer["dst_len"] == relay.max_prefixlen and answer["proto"] == ROUTE_PROTOCOL
            if not is_pin and route.interface != tunnel_interface:
                best, found = rank, route
        return found

    def addresses(self, interface: str) -> list[IPInterface]:
        """The interface's addresses, but for those whose duplicates are still looked for (RFC 4862) or were found."""
        try:
            index = _index(interface)
            found = _request(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg(), ifaddrmsg)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []
            raise _error("list addresses", f"cannot list the addresses of {interface}", error) from error
        return [
            ipaddress.ip_interface(
                (answer.get_attr("IFA_LOCAL") or answer.get_attr("IFA_ADDRESS"), answer["prefixlen"])
            )
            for answer in found
            if answer["index"] == index and not answer["flags"] & (IFA_F_TENTATIVE | IFA_F_DADFAILED)
        ]


def _message(destination: IPAddress | IPNetwork) -> Any:
    message = rtmsg()
    message["family"] = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    message["attrs"] = []
    return message


def _route_message(route: HostRoute) -> Any:
    message = _message(route.destination)
    message["table"] = _MAIN
    message["proto"] = ROUTE_PROTOCOL
    message["scope"] = _SCOPE_NOWHERE
    message["dst_len"] = route.destination.prefixlen
    attributes = message["attrs"]
    attributes.append(("RTA_DST", _text(route.destination.network_address)))
    attributes.append(("RTA_OIF", _index(route.interface)))
    if route.gateway is not None:
        if route.gateway.version == route.destination.version:
            attributes.append(("RTA_GATEWAY", _text(route.gateway)))
        else:
            attributes.append(("RTA_VIA", {"family": socket.AF_INET6, "addr": _text(route.gateway)}))
    if route.source is not None:
        attributes.append(("RTA_PREFSRC", _text(route.source)))
    return message


def _may_lead(answer: Any, relay: IPAddress) -> bool:
    """Whether the table's entry `answer` could be the way to `relay` now."""
    if answer["type"] != _UNICAST or answer.get_attr("RTA_OIF") is None or answer["flags"] & _UNUSABLE:
        return False
    destination = answer.get_attr("RTA_DST")
    if destination is None:
        return True
    return relay in ipaddress.ip_network((destination, answer["dst_len"]))


def _is(answer: Any, route: HostRoute) -> bool:
    """Whether the table's entry `answer` leads where `route` does."""
    if answer["type"] != _UNICAST or answer["dst_len"] != route.destination.prefixlen:
        return False
    destination = answer.get_attr("RTA_DST")
    if destination is None or answer.get_attr("RTA_OIF") is None:  # a default route; one of several hops
        return False
    found = _route(answer, _network(ipaddress.ip_address(destination), answer["dst_len"]))
    return (found.destination, found.gateway, found.interface) == (
        route.destination,
        route.gateway,
        route.interface,
    ) and route.source in (None, found.source)


def _route(answer: Any, destination: IPNetwork) -> HostRoute:
    gateway = answer.get_attr("RTA_GATEWAY")
    via = answer.get_attr("RTA_VIA")
    source = answer.get_attr("RTA_PREFSRC")
    if via is not None:
        gateway = via["addr"]
    return HostRoute(
        destination=destination,
        gateway=None if gateway is None else ipaddress.ip_address(gateway),
        interface=socket.if_indextoname(answer.get_attr("RTA_OIF")),
        source=None if source is None else ipaddress.ip_address(source),
    )


def _request(kind: int, flags: int, message: Any, decode: Any = rtmsg) -> list[Any]:
    """Ask the kernel; returns what it answers with, routes as a rule. Raises OSError with the kernel's number."""
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message["header"]["sequence_number"] = 1
    message.encode()
    answers: list[Any] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT)
        if flags == NLM_F_DUMP:
            # The kernel then lists only the table and interface that are asked for.
            sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        sock.sendto(message.data, (0, 0))
        while True:
            data = sock.recv(_RECEIVE_LIMIT)
            offset = 0
            while offset < len(data):
                length, found, _, _, _ = _HEADER.unpack_from(data, offset)
                if found in (NLMSG_ERROR, NLMSG_DONE):
                    number = -_ERROR.unpack_from(data, offset + _HEADER.size)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                answer = decode(data[offset : offset + length])
                answer.decode()
                answers.append(answer)
                if not flags:
                    return answers  # neither an end nor an acknowledgement follows
                offset += (length + 3) & ~3


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:  # which has no number in every Python
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def _network(address: IPAddress, length: int) -> IPNetwork:
    return ipaddress.ip_network((address.packed, length))


def _text(address: IPAddress) -> str:
    """`address` without the scope that an IPv6 one may carry."""
    return str(ipaddress.ip_address(address.packed))


def _error(stage: str, attempt: str, error: OSError) -> HostError:
    if error.errno == errno.EPERM:
        return HostError(stage, f"{attempt}: it needs CAP_NET_ADMIN; run it as root, or with that capability")
    if error.errno == errno.EEXIST:
        return HostError(stage, f"{attempt}: there is another one to the same destination; remove that first")
    return HostError(stage, f"{attempt}: {error.strerror or error}")
