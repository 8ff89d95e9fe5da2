# ruff: noqa: RUF001 -- characters that look like others are what is tried.
"""What callers might write to have the server connect to where only it can: the matrix.

Each case is a URI, what becomes of it, and to which addresses connections may be opened meanwhile.
The names are those of `ssrf_hosts`, the redirects those of `ssrf_world`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.ssrf_hosts import GOOD, PRIVATE, PUBLIC_IPV4, PUBLIC_IPV6

FETCHED = "fetched"
INVALID = "INVALID_ARGUMENT"
DISABLED = "SOURCE_DISABLED"
FORBIDDEN = "SOURCE_FORBIDDEN"
UNAVAILABLE = "SOURCE_UNAVAILABLE"


@dataclass(frozen=True)
class Case:
    """One row of the matrix.

    Attributes:
        name: What is tried.
        uri: What the caller writes.
        outcomes: What becomes of it, for each of the tries in a row: `fetched` or an error's code.
        settings: Under which of `SETTINGS`.
        also: An address that may be connected to, beside the public host's.
    """

    name: str
    uri: str
    outcomes: tuple[str, ...]
    settings: str = "open"
    also: tuple[str, ...] = field(default=())

    @property
    def allowed(self) -> set[tuple[str, int]]:
        """Addresses and ports that connections may be opened to."""
        addresses = (PUBLIC_IPV4, PUBLIC_IPV6, *self.also)
        ports = (443, 8443) if self.settings == "listed" else (443,)
        return {(address, port) for address in addresses for port in ports}


def redirect(location: str, status: int = 302) -> str:
    """Return the URI of a redirect by the public host."""
    written = base64.urlsafe_b64encode(location.encode()).decode()
    return f"https://{GOOD}/to/{status}/{written}"


# Hosts as they are written in a URL, by what becomes of them.
_ADDRESSES = {
    "loopback": "127.0.0.1",
    "end of loopback": "127.255.255.254",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "private 10": "10.0.0.1",
    "private 172.16": "172.16.0.1",
    "private 192.168": "192.168.1.1",
    "link-local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "metadata of containers": "169.254.170.2",
    "metadata in carriers' space": "100.100.100.200",
    "metadata in protocol space": "192.0.0.192",
    "wire server in public space": "168.63.129.16",
    "benchmark network": "198.18.0.1",
    "6to4 relay": "192.88.99.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "[::1]",
    "IPv6 loopback at length": "[0:0:0:0:0:0:0:1]",
    "IPv6 unspecified": "[::]",
    "mapped loopback": "[::ffff:127.0.0.1]",
    "mapped loopback in hexadecimal": "[::ffff:7f00:1]",
    "mapped private": "[::ffff:10.0.0.1]",
    "mapped metadata": "[::ffff:a9fe:a9fe]",
    "compatible loopback": "[::127.0.0.1]",
    "translated loopback (SIIT)": "[::ffff:0:127.0.0.1]",
    "NAT64 loopback": "[64:ff9b::7f00:1]",
    "NAT64 metadata": "[64:ff9b::169.254.169.254]",
    "local NAT64 metadata": "[64:ff9b:1::a9fe:a9fe]",
    "6to4 loopback": "[2002:7f00:1::]",
    "6to4 metadata": "[2002:a9fe:a9fe::]",
    "Teredo": "[2001:0:7f00:1::1]",
    "Teredo with the client's address": "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "IPv6 link-local": "[fe80::1]",
    "IPv6 unique local": "[fc00::1]",
    "IPv6 metadata": "[fd00:ec2::254]",
    "IPv6 multicast": "[ff02::1]",
    "IPv6 documentation": "[2001:db8::1]",
    "IPv6 site-local": "[fec0::1]",
}
_LOCAL_NAMES = {
    "localhost": "localhost",
    "localhost with a dot": "localhost.",
    "LOCALHOST": "LOCALHOST",
    "localhost of IPv6": "ip6-localhost",
}
_ODD_HOSTS = {
    "short": "127.1",
    "shorter": "127.0.1",
    "decimal": "2130706433",
    "decimal metadata": "2852039166",
    "hexadecimal": "0x7f000001",
    "hexadecimal in parts": "0x7f.0x0.0x0.0x1",
    "hexadecimal in capitals": "0X7F.1",
    "octal": "0177.0.0.1",
    "octal in one": "017700000001",
    "padded zeros": "127.000.000.001",
    "zero": "0",
    "more than 32 bits": "4294967296",
    "more than 8 bits": "127.0.0.257",
    "five parts": "127.0.0.0.1",
    "IPv4 with a dot": "127.0.0.1.",
    "IPv4 in brackets": "[127.0.0.1]",
    "zone": "[fe80::1%25lo]",
    "bare zone": "[fe80::1%lo]",
    "zone on loopback": "[::1%25lo]",
    "zone on a public address": f"[{PUBLIC_IPV6}%25lo]",
    "future address": "[v1.127.0.0.1]",
    "IPv6 without brackets": "::1",
    "open bracket": "[::1",
    "brackets and more": "[::1].attack.test",
    "full-width digits": "１２７.0.0.1",
    "circled digits": "①②⑦.⓪.⓪.①",
    "Arabic digits": "١٢٧.٠.٠.١",
    "ideographic dots": "127。0。0。1",
    "circled letters": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "soft hyphen": "local\u00adhost",
    "zero-width space": "local\u200bhost",
    "percent-encoded": "%31%32%37.0.0.1",
    "percent-encoded dot": "127%2e0.0.1",
    "empty": "",
    "only a dot": ".",
    "two dots": "loopback..attack.test",
    "label of 64": f"{'a' * 64}.attack.test",
    "name of 300": ".".join(["a" * 49] * 6),
    "hyphen first": "-loopback.attack.test",
}
_NAMES = {
    "loopback": "loopback.attack.test",
    "loopback with a dot": "loopback.attack.test.",
    "loopback in capitals": "LOOPBACK.attack.TEST",
    "unspecified": "unspecified.attack.test",
    "private": "private.attack.test",
    "metadata": "metadata.attack.test",
    "carriers' space": "carrier.attack.test",
    "wire server": "wire.attack.test",
    "IPv6 loopback": "loopback6.attack.test",
    "IPv6 unique local": "unique.attack.test",
    "mapped": "mapped.attack.test",
    "compatible": "compatible.attack.test",
    "NAT64": "translated.attack.test",
    "6to4": "sixtofour.attack.test",
    "Teredo": "teredo.attack.test",
    "several private addresses": "several.attack.test",
    "chain of aliases to loopback": "alias.attack.test",
    "alias of localhost": "localalias.attack.test",
    "an address in the name": "127.0.0.1.attack.test",
    "nobody has it": "nowhere.attack.test",
}
_OTHER_URIS = {
    "userinfo before loopback": (f"https://{GOOD}@127.0.0.1/image.png", INVALID),
    "userinfo before the good host": (f"https://127.0.0.1@{GOOD}/image.png", INVALID),
    "user and password": (f"https://user:secret@{GOOD}/image.png", INVALID),
    "port and userinfo": (f"https://{GOOD}:443@127.0.0.1/image.png", INVALID),
    "empty userinfo": ("https://@127.0.0.1/image.png", INVALID),
    "two at signs": (f"https://{GOOD}@{GOOD}@127.0.0.1/", INVALID),
    "encoded at sign": (f"https://{GOOD}%40127.0.0.1/image.png", INVALID),
    "backslash before an at sign": (f"https://{GOOD}\\@127.0.0.1/image.png", INVALID),
    "backslash for a slash": (f"https://127.0.0.1\\.{GOOD}/image.png", INVALID),
    "backslashes for slashes": ("https:\\\\127.0.0.1\\image.png", INVALID),
    "one slash": ("https:/127.0.0.1/image.png", INVALID),
    "no slash": ("https:127.0.0.1/image.png", INVALID),
    "three slashes": ("https:///127.0.0.1/image.png", INVALID),
    "tab in the host": ("https://127.0.\t0.1/image.png", INVALID),
    "newline in the host": ("https://127.0.\n0.1/image.png", INVALID),
    "tab in the scheme": ("htt\tps://127.0.0.1/image.png", DISABLED),
    "space before the scheme": (" https://127.0.0.1/image.png", DISABLED),
    "space after": (f"https://{GOOD}/image.png ", INVALID),
    "header injection": (f"https://{GOOD}/image.png\r\nHost: 127.0.0.1", INVALID),
    "injection into the host": (f"https://{GOOD}\r\nX: y/image.png", INVALID),
    "NUL in the host": (f"https://127.0.0.1\0.{GOOD}/image.png", INVALID),
    "too long": (f"https://{GOOD}/{'a' * 8200}", INVALID),
    "fragment before the good host": (f"https://127.0.0.1#@{GOOD}/image.png", UNAVAILABLE),
    "query before the good host": (f"https://127.0.0.1?@{GOOD}/image.png", UNAVAILABLE),
    "path with the good host": (f"https://127.0.0.1/{GOOD}/image.png", UNAVAILABLE),
    "capital scheme to loopback": ("HTTPS://127.0.0.1/image.png", UNAVAILABLE),
    "port 22": (f"https://{GOOD}:22/image.png", FORBIDDEN),
    "port 80": (f"https://{GOOD}:80/image.png", FORBIDDEN),
    "port 8443": (f"https://{GOOD}:8443/image.png", FORBIDDEN),
    "port 22 on loopback": ("https://127.0.0.1:22/image.png", FORBIDDEN),
    "port 0": (f"https://{GOOD}:0/image.png", INVALID),
    "port 65536": (f"https://{GOOD}:65536/image.png", INVALID),
    "port 65979, 443 in 16 bits": (f"https://{GOOD}:65979/image.png", INVALID),
    "negative port": (f"https://{GOOD}:-443/image.png", INVALID),
    "empty port": (f"https://{GOOD}:/image.png", INVALID),
    "name of a port": (f"https://{GOOD}:https/image.png", INVALID),
    "two ports": (f"https://{GOOD}:443:22/image.png", INVALID),
    "digits of another script in a port": (f"https://{GOOD}:４４３/image.png", INVALID),
    "http": (f"http://{GOOD}/image.png", DISABLED),
    "http to loopback": ("http://127.0.0.1/image.png", DISABLED),
    "HTTP": ("HTTP://127.0.0.1/image.png", DISABLED),
    "file": ("file:///etc/passwd", DISABLED),
    "FILE": ("FILE:///etc/passwd", DISABLED),
    "file on a host": ("file://127.0.0.1/etc/passwd", DISABLED),
    "path": ("/etc/passwd", DISABLED),
    "ftp": ("ftp://127.0.0.1/image.png", DISABLED),
    "gopher": ("gopher://127.0.0.1:6379/_INFO", DISABLED),
    "dict": ("dict://127.0.0.1:11211/stats", DISABLED),
    "ldap": ("ldap://127.0.0.1/", DISABLED),
    "unix": ("unix:///var/run/docker.sock", DISABLED),
    "http over unix": ("http+unix://%2Fvar%2Frun%2Fdocker.sock/info", DISABLED),
    "jar": ("jar:https://127.0.0.1/a.jar!/image.png", DISABLED),
    "web socket": ("wss://127.0.0.1/", DISABLED),
    "no scheme": ("//127.0.0.1/image.png", DISABLED),
    "bucket that is not set up": ("s3://bucket/image.png", DISABLED),
    "bucket with an endpoint": ("gs://127.0.0.1:443/image.png", DISABLED),
}
_FORBIDDEN_TARGETS = {
    "a plain scheme": f"http://{GOOD}/image.png",
    "a plain scheme on loopback": "http://127.0.0.1/image.png",
    "file": "file:///etc/passwd",
    "data": "data:image/png;base64,iVBORw0KGgo=",
    "gopher": "gopher://127.0.0.1:6379/_INFO",
    "a bucket": "s3://bucket/image.png",
    "decimal loopback": "https://2130706433/image.png",
    "octal loopback": "https://0177.0.0.1/image.png",
    "userinfo": f"https://{GOOD}@127.0.0.1/image.png",
    "a zone": "https://[fe80::1%25lo]/image.png",
    "port 22": f"https://{GOOD}:22/image.png",
    "port 8443": f"//{GOOD}:8443/image.png",
    "backslashes": "\\\\127.0.0.1\\image.png",
    "a slash and a backslash": "/\\127.0.0.1/image.png",
    "full-width digits": "https://１２７.0.0.1/image.png",
}
_UNREACHABLE_TARGETS = {
    "loopback": "https://127.0.0.1/image.png",
    "loopback without a scheme": "//127.0.0.1/image.png",
    "capital scheme": "HTTPS://127.0.0.1/image.png",
    "IPv6 loopback": "https://[::1]/image.png",
    "private": f"https://{PRIVATE}/image.png",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "mapped metadata": "https://[::ffff:169.254.169.254]/image.png",
    "NAT64 metadata": "https://[64:ff9b::a9fe:a9fe]/image.png",
    "6to4 loopback": "https://[2002:7f00:1::]/image.png",
    "a name of loopback": "https://loopback.attack.test/image.png",
    "a name of metadata": "https://metadata.attack.test/image.png",
    "a chain of aliases": "https://alias.attack.test/image.png",
    "localhost": "https://localhost/image.png",
}
_STATUSES = (301, 303, 307, 308)


def _cases() -> Iterator[Case]:
    for name, host in (_ADDRESSES | _LOCAL_NAMES).items():
        yield Case(f"address: {name}", f"https://{host}/image.png", (UNAVAILABLE,))
    for name, host in _ODD_HOSTS.items():
        yield Case(f"odd host: {name}", f"https://{host}/image.png", (INVALID,))
    for name, host in _NAMES.items():
        yield Case(f"name: {name}", f"https://{host}/image.png", (UNAVAILABLE,))
    for name, (uri, outcome) in _OTHER_URIS.items():
        yield Case(f"URI: {name}", uri, (outcome,))
    for name, target in _FORBIDDEN_TARGETS.items():
        yield Case(f"redirect to {name}", redirect(target), (FORBIDDEN,))
    for name, target in _UNREACHABLE_TARGETS.items():
        yield Case(f"redirect to {name}", redirect(target), (UNAVAILABLE,))
    for status in _STATUSES:
        yield Case(
            f"redirect {status} to loopback",
            redirect("https://127.0.0.1/image.png", status),
            (UNAVAILABLE,),
        )
    yield from _chains()
    yield from _rebinding()
    yield from _lists()
    yield from _private_network()
    yield from _good()


def _chains() -> Iterator[Case]:
    inner = redirect("https://127.0.0.1/image.png")
    yield Case("redirect to a redirect to loopback", redirect(inner), (UNAVAILABLE,))
    yield Case("redirects without end", f"https://{GOOD}/loop", (UNAVAILABLE,))
    yield Case("four redirects", f"https://{GOOD}/chain/4", (UNAVAILABLE,))
    yield Case("redirect to nowhere", f"https://{GOOD}/to/302/", (UNAVAILABLE,))


def _rebinding() -> Iterator[Case]:
    for name in ("rebinding", "rebinding6"):
        uri = f"https://{name}.attack.test/image.png"
        yield Case(f"{name}: public first", uri, (FETCHED, UNAVAILABLE, UNAVAILABLE))
    yield Case(
        "rebinding between a redirect and its target",
        "https://rebinding.attack.test/chain/1",
        (UNAVAILABLE,),
    )
    yield Case(
        "rebinding to the public address",
        "https://unbinding.attack.test/image.png",
        (UNAVAILABLE, FETCHED),
    )
    yield Case(
        "rebinding again and again",
        "https://flapping.attack.test/image.png",
        (UNAVAILABLE, FETCHED) * 10,
    )


def _lists() -> Iterator[Case]:
    for name, host, outcome in (
        ("the only host", GOOD, FETCHED),
        ("the only host in capitals", GOOD.upper(), FETCHED),
        ("the only host with a dot", f"{GOOD}.", FETCHED),
        ("an allowed address", PUBLIC_IPV4, FETCHED),
        ("an allowed port", f"{GOOD}:8443", FETCHED),
        ("below an allowed domain", "cdn.good.test", FETCHED),
        ("the allowed domain itself", "good.test", FORBIDDEN),
        ("a domain that ends alike", "evilgood.test", FORBIDDEN),
        ("a host that begins alike", f"{GOOD}.evil.test", FORBIDDEN),
        ("another host", "mixed.attack.test", FORBIDDEN),
        ("another address", "93.184.216.35", FORBIDDEN),
        ("an allowed address, mapped", f"[::ffff:{PUBLIC_IPV4}]", FORBIDDEN),
        ("a denied host", "denied.good.test", FORBIDDEN),
        ("a denied host in capitals", "Denied.GOOD.test", FORBIDDEN),
        ("a denied host with a dot", "denied.good.test.", FORBIDDEN),
        ("below a denied domain", "deep.worse.good.test", FORBIDDEN),
        ("an allowed name of loopback", "loopback.good.test", UNAVAILABLE),
    ):
        uri = f"https://{host}/image.png"
        yield Case(f"lists: {name}", uri, (outcome,), settings="listed")
    target = redirect("https://denied.good.test/image.png")
    yield Case("lists: redirect to a denied host", target, (FORBIDDEN,), settings="listed")


def _private_network() -> Iterator[Case]:
    for name, uri, outcome in (
        ("its address", f"https://{PRIVATE}/image.png", FETCHED),
        ("a name of it", "https://private.attack.test/image.png", FETCHED),
        ("redirect to it", redirect(f"https://{PRIVATE}/image.png"), FETCHED),
        ("its address, mapped", f"https://[::ffff:{PRIVATE}]/image.png", UNAVAILABLE),
        ("its address by NAT64", "https://[64:ff9b::a00:1]/image.png", UNAVAILABLE),
        ("another network", "https://192.168.1.1/image.png", UNAVAILABLE),
        ("loopback", "https://127.0.0.1/image.png", UNAVAILABLE),
        ("metadata", "https://169.254.169.254/image.png", UNAVAILABLE),
    ):
        yield Case(
            f"private network: {name}",
            uri,
            (outcome,),
            settings="private network",
            also=(PRIVATE,) if outcome == FETCHED else (),
        )


def _good() -> Iterator[Case]:
    """Yield what must be fetched: a server that fetches nothing is safe, too."""
    for name, uri in {
        "a name": f"https://{GOOD}/image.png",
        "capitals": f"HTTPS://{GOOD.upper()}/image.png",
        "a dot at the end": f"https://{GOOD}./image.png",
        "its port": f"https://{GOOD}:443/image.png",
        "a fragment": f"https://{GOOD}/image.png#@127.0.0.1",
        "a query with an address": f"https://{GOOD}/image.png?@127.0.0.1/",
        "a path with an address": f"https://{GOOD}//127.0.0.1/image.png",
        "an IPv4 address": f"https://{PUBLIC_IPV4}/image.png",
        "an IPv6 address": f"https://[{PUBLIC_IPV6}]/image.png",
        "a mapped public address": f"https://[::ffff:{PUBLIC_IPV4}]/image.png",
        "an alias": "https://goodalias.attack.test/image.png",
        "a name with private addresses beside": "https://mixed.attack.test/image.png",
        "a name with IPv6 loopback beside": "https://mixed6.attack.test/image.png",
        "three redirects": f"https://{GOOD}/chain/3",
        "a redirect without a host": redirect("/image.png"),
        "a redirect without a scheme": redirect(f"//{GOOD}/image.png"),
    }.items():
        yield Case(f"good: {name}", uri, (FETCHED,))


CASES = tuple(_cases())
