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
    """The IPv4 address of a network interface; ``None`` where it has none or does not exist."""
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def own_addresses() -> tuple[str, ...]:
    """Return the addresses from which this host may connect to another: of all its interfaces but the loopback."""
    found = set()
    for _, name in socket.if_nameindex():
        if (address := interface_address(name)) is not None:
            found.add(address)
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))))
    addresses = (ipaddress.ip_address(text) for text in found)
    return tuple(sorted(str(address) for address in addresses if not (address.is_loopback or address.is_link_local)))
