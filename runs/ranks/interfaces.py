"""The network interfaces of this host and their addresses."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7): the address of an interface


def interface_address(name: str) -> str | None:
    """The IPv4 address of a rank's network interface; ``None`` where it has none or does not exist."""
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def own_addresses(name: str = "") -> tuple[str, ...]:
    """Return the addresses from which this rank may connect to another: of all network interfaces but the loopback.

    Args:
        name: A name or address by which others call this host; its addresses are added.
    """
    found = {address for _, interface in socket.if_nameindex() if (address := interface_address(interface))}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))))
    found |= set(resolve(name))
    addresses = (ipaddress.ip_address(text.partition("%")[0]) for text in found)
    return tuple(sorted(str(address) for address in addresses if not (address.is_loopback or address.is_link_local)))


def resolve(name: str) -> tuple[str, ...]:
    """Return the addresses of a rank's host as its interfaces see them; none if it cannot be resolved."""
    if not name:
        return ()
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(sorted({str(entry[4][0]).partition("%")[0] for entry in found}))
