"""JSON Web Tokens: which are let in, as whom; keys that come and go."""

import asyncio
import base64
import hmac
import json
import time
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.identity import ALL_SCOPES, Credentials, Identity, Scope
from maskwire_server.identity import json_web_tokens
from maskwire_server.identity.json_web_tokens import JsonWebTokens, KeySetError, TokenRules

ISSUER = "https://issuer.example"


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def write_keys(path, **keys):
    published = []
    for name, key in keys.items():
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        algorithm = RSAAlgorithm if is_rsa else ECAlgorithm
        entry = algorithm.to_jwk(key.public_key(), as_dict=True)
        published.append(entry | {"kid": name, "alg": "RS256" if is_rsa else "ES256"})
    path.write_text(json.dumps({"keys": published}))
    return path


@pytest.fixture
async def tokens(tmp_path, rsa_key, ec_key):
    path = write_keys(tmp_path / "keys.json", one=rsa_key, two=ec_key)
    opened = await JsonWebTokens.open(TokenRules(ISSUER, "maskwire", str(path)))
    yield opened
    await opened.close()


def token(key, *, kid="one", algorithm="RS256", headers=None, **changes):
    claims = {
        "iss": ISSUER,
        "aud": "maskwire",
        "sub": "robot-7",
        "tenant": "acme",
        "exp": time.time() + 300,
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} | (headers or {}))


def test_a_good_token_names_the_tenant(tokens, rsa_key, ec_key):
    expected = Identity("acme", "robot-7", ALL_SCOPES)
    assert tokens.authenticate(Credentials(token(rsa_key))) == expected
    by_curve = token(ec_key, kid="two", algorithm="ES256")
    assert tokens.authenticate(Credentials(by_curve)) == expected
    assert tokens.authenticate(Credentials(by_curve)) == expected


def signed_with_text(secret, header, body):
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    mac = hmac.digest(secret.encode(), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("files jobs", {Scope.FILES, Scope.JOBS}),
        (["files", "email"], {Scope.FILES}),
        ("", set()),
        (7, set()),
    ],
)
def test_scopes_come_from_the_claim(tokens, rsa_key, claim, scopes):
    found = tokens.authenticate(Credentials(token(rsa_key, scope=claim)))
    assert found.scopes == frozenset(scopes)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"tenant": None},
        {"tenant": "Acme Ltd"},
        {"tenant": ["acme"]},
        {"kid": "three"},
    ],
    ids=lambda changes: "-".join(f"{name}={value}" for name, value in changes.items()),
)
def test_tokens_that_break_a_rule_are_refused(tokens, rsa_key, changes):
    with pytest.raises(MaskwireError) as caught:
        tokens.authenticate(Credentials(token(rsa_key, **changes)))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_forged_tokens_are_refused(tokens, rsa_key, ec_key):
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = token(rsa_key)
    head, body, signature = good.split(".")
    other_body = token(rsa_key, tenant="globex").split(".")[1]
    public = RSAAlgorithm.to_jwk(rsa_key.public_key())
    forged = {
        "a stranger's": token(stranger),
        "changed": ".".join((head, other_body, signature)),
        "unsigned": jwt.encode({"sub": "x"}, "", "none", headers={"kid": "one"}),
        "public key as a secret": signed_with_text(public, {"alg": "HS256", "kid": "one"}, body),
        "another kind of key": token(ec_key, algorithm="ES256", kid="one"),
        "no signature": f"{head}.{body}.",
        "nothing": "..",
        "huge": f"{head}.{'A' * 10_000}.{signature}",
    }
    for what, text in forged.items():
        with pytest.raises(MaskwireError) as caught:
            tokens.authenticate(Credentials(text))
        assert caught.value.code is ErrorCode.UNAUTHENTICATED, what


def test_what_is_no_token_is_not_its_business(tokens):
    assert tokens.authenticate(Credentials("mwk_key")) is None
    assert tokens.authenticate(Credentials("", "acme")) is None


async def test_a_key_that_is_withdrawn_vouches_for_nothing_any_more(
    tmp_path, monkeypatch, rsa_key, ec_key
):
    monkeypatch.setattr(json_web_tokens, "_SOONEST_S", 0.01)
    path = write_keys(tmp_path / "keys.json", one=rsa_key)
    rules = TokenRules(ISSUER, "maskwire", str(path), refresh_interval=timedelta(milliseconds=20))
    tokens = await JsonWebTokens.open(rules)
    try:
        old = Credentials(token(rsa_key))
        new = Credentials(token(ec_key, kid="two", algorithm="ES256"))
        assert tokens.authenticate(old) is not None
        path.write_text("{")  # is passed over
        write_keys(path, two=ec_key)
        async with asyncio.timeout(20):
            while True:
                try:
                    tokens.authenticate(new)
                    break
                except MaskwireError:
                    await asyncio.sleep(0)
        with pytest.raises(MaskwireError):
            tokens.authenticate(old)
    finally:
        await tokens.close()


@pytest.mark.parametrize("content", [None, "{", '{"keys": []}', "[]", '{"keys": [{"kty": "oct"}]}'])
async def test_key_sets_that_are_none_are_refused_at_the_start(tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeySetError, match=r"keys\.json"):
        await JsonWebTokens.open(TokenRules(ISSUER, "maskwire", str(path)))
