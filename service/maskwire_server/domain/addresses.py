"""Which network addresses the server may connect to on a caller's behalf: public ones.

A caller's URL must not reach what only the server can: its own machine, its network, the metadata
service of its cloud. Names say nothing about that, so the rule is about the address that a socket
is about to be opened to.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# `ipaddress` knows the registries of special addresses, but not all of these in every version.
_NOT_PUBLIC_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' address translation; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's wire server, in public space
        "169.254.0.0/16",  # link-local; metadata of most clouds at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which carries an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
# A packet to one of these goes to the IPv4 address in its last 32 bits.
_CARRIES_IPV4 = (
    IPv6Network("::ffff:0:0/96"),  # mapped
    IPv6Network("64:ff9b::/96"),  # translated (NAT64)
)


def is_public_address(address: str) -> bool:
    """Return whether an address, as a resolver gives it, is one that anybody may connect to.

    What is no IPv4 or IPv6 address in its usual form, or has a scope, is not.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return _is_public_ipv4(parsed)
    return _is_public_ipv6(parsed)


def _is_public_ipv4(address: IPv4Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC_IPV4)


def _is_public_ipv6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if any(address in network for network in _CARRIES_IPV4):
        return _is_public_ipv4(IPv4Address(int(address) & 0xFFFF_FFFF))
    return (
        address in _GLOBAL_UNICAST_IPV6
        and address.is_global
        and not any(address in network for network in _NOT_PUBLIC_IPV6)
    )
