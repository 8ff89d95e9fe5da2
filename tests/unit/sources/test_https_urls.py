"""Reading callers' URLs: one meaning, or none."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from maskwire_server.sources.https_urls import HttpsUrl, read_https_url


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://host.test", HttpsUrl("host.test", 443, "/")),
        ("HTTPS://Host.Test./a?b=c#d", HttpsUrl("host.test", 443, "/a?b=c")),
        ("https://host.test?q", HttpsUrl("host.test", 443, "/?q")),
        ("https://host.test:8443/%2e%2e/x", HttpsUrl("host.test", 8443, "/%2e%2e/x")),
        ("https://host.test:0443/a/../b//c", HttpsUrl("host.test", 443, "/a/../b//c")),
        ("https://a_b-c.test/'\"<>{}|^`", HttpsUrl("a_b-c.test", 443, "/'\"<>{}|^`")),
        ("https://93.184.216.34:1/", HttpsUrl("93.184.216.34", 1, "/")),
        ("https://[2606:2800::0:1]:65535/", HttpsUrl("2606:2800::1", 65535, "/")),
        ("https://xn--mnchen-3ya.test/", HttpsUrl("xn--mnchen-3ya.test", 443, "/")),
    ],
)
def test_a_url(text, read):
    assert read_https_url(text) == read


def test_a_url_is_written_as_it_was_read():
    assert str(read_https_url("HTTPS://Host.test.:8443/a?b#c")) == "https://host.test:8443/a?b"
    assert str(read_https_url("https://[::1]")) == "https://[::1]/"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("http://host.test/", "https://host/path"),
        ("https:/host.test/", "https://host/path"),
        ("https://user@host.test/", "user name"),
        ("https://host.test:/", "port"),
        ("https://host.test:65536/", "1 to 65535"),
        ("https://host test/", "spaces"),
        ("https://host\\test/", "backslashes"),
        ("https://münchen.test/", "xn--"),
        ("https://host.test/ü", "ASCII"),
        ("https://127.1/", "four decimal"),
        ("https://0x7f.1/", "four decimal"),
        ("https://1.2.3.4./", "four decimal"),
        ("https://[::1%25lo]/", "address"),
        ("https://[1.2.3.4]/", "without a zone"),
        ("https://host..test/", "labels"),
        (f"https://{'a.' * 127}test/", "253"),
        (f"https://host.test/{'a' * 8192}", "8192"),
    ],
)
def test_what_is_no_url_is_told(text, rule):
    with pytest.raises(ValueError, match=rule):
        read_https_url(text)


_PIECES = st.sampled_from(
    [
        *("https://", "HTTPS:", "//", "/", "\\", "@", ":", "#", "?", "[", "]", "%", ".", "..", ";"),
        *(
            "a",
            "test",
            "127.0.0.1",
            "::1",
            "0x7f",
            "2130706433",
            "443",
            "22",
            "\uff10",
            "\u3002",
            "\t",
            "\n",
        ),
        *("%00", "%2e", "%40", "xn--", "-", "_", "localhost", " ", "\0", "é", "&", "="),
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=12).map("".join)))
@example("https://a@b")
def test_whatever_is_read_means_the_same_to_the_client(text):
    for candidate in (text, f"https://{text}"):
        try:
            url = read_https_url(candidate)
        except ValueError:
            continue
        assert read_https_url(str(url)) == url
        sent = URL(str(url), encoded=True)
        assert sent.scheme == "https"
        assert (sent.raw_host, sent.port) == (url.host, url.port)
        assert sent.user is None
        assert sent.password is None
        assert sent.raw_path_qs == url.target
        if url.host.replace(".", "").isdigit() or ":" in url.host:
            assert str(ip_address(url.host)) == url.host
