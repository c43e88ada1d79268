"""Forged bearer tokens, against a provider of OpenID Connect that plays its part well."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from security.harness import app, serving
from token_provider import AUDIENCE, Provider

from service.access.tokens import Tokens

URL = "/v1/segmentations"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    made.add_rsa("one")
    made.add_rsa("two")
    yield made
    made.close()


@pytest.fixture(scope="module")
def port(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that takes that provider's tokens, and any number of guesses."""
    settings = {
        "oidc_issuer": provider.issuer,
        "oidc_audience": AUDIENCE,
        "failed_keys_per_minute": 1_000_000,
    }
    with serving(app(tmp_path_factory.mktemp("data"), **settings)) as listening:
        yield listening


def status(port: int, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"http://127.0.0.1:{port}{URL}", headers=headers, timeout=30).status_code


def part(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def claims(provider: Provider) -> dict[str, object]:
    return {
        "iss": provider.issuer,
        "aud": AUDIENCE,
        "sub": "mallory",
        "exp": time.time() + 60,
        "scope": "lts:admin",
    }


def unsigned(provider: Provider, header: object, signature: bytes = b"") -> str:
    return ".".join((part(header), part(claims(provider)), part(signature)))


def signed_with_public(provider: Provider, key_id: str, encoding: Encoding) -> str:
    """HS256 with the bytes of the public key, which everybody has."""
    form = PublicFormat.SubjectPublicKeyInfo
    secret = provider.keys[key_id].public_key().public_bytes(encoding, form)
    head = f"{part({'alg': 'HS256', 'kid': key_id})}.{part(claims(provider))}"
    return f"{head}.{part(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def test_an_honest_token(port: int, provider: Provider) -> None:
    """Else the others would show nothing."""
    assert status(port, provider.token("one")) == 200
    assert status(port, provider.token("one", scope="")) == 403


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 7, ["none"]])
def test_unsigned(port: int, provider: Provider, algorithm: object) -> None:
    """However `none` is written, a token without a signature is none."""
    header = {"alg": algorithm, "kid": "one", "typ": "JWT"}
    assert status(port, unsigned(provider, header)) == 401
    assert status(port, unsigned(provider, header, b"signature")) == 401


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_signed_with_what_is_public(port: int, provider: Provider, encoding: Encoding) -> None:
    """A public key is no secret of an HMAC."""
    assert status(port, signed_with_public(provider, "one", encoding)) == 401


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
def test_keys_that_a_token_brings(port: int, provider: Provider, name: str) -> None:
    """Only the provider's published keys count; no address of a token is asked."""
    own = rsa.generate_private_key(65537, 2048)
    public = RSAAlgorithm.to_jwk(own.public_key(), as_dict=True) | {"kid": "one"}
    asked = provider.asked
    brought = {
        "jku": f"{provider.issuer}/keys",
        "x5u": f"{provider.issuer}/keys",
        "jwk": public,
        "x5c": ["MIIB"],
    }
    token = jwt.encode(claims(provider), own, "RS256", headers={"kid": "one", name: brought[name]})
    assert status(port, token) == 401
    assert provider.asked == asked


@pytest.mark.parametrize(
    "key_id",
    ["../../../../dev/null", "/dev/null", "' UNION SELECT 'x", "http://evil.example/k", "", "one\0",
     None, 1, ["one"], {"one": 1}, "x" * 10_000],
)  # fmt: skip
def test_names_of_keys(port: int, provider: Provider, key_id: object) -> None:
    """They are looked up among the provider's, and nowhere else."""
    head = f"{part({'alg': 'HS256', 'kid': key_id})}.{part(claims(provider))}"
    token = f"{head}.{part(hmac.new(b'', head.encode(), hashlib.sha256).digest())}"
    assert status(port, token) == 401


def test_changed_claims(port: int, provider: Provider) -> None:
    """A signature is of its own token only."""
    header, _, signature = provider.token("one").split(".")
    assert status(port, f"{header}.{part(claims(provider))}.{signature}") == 401
    other = provider.token("two").split(".")
    assert status(port, f"{other[0]}.{other[1]}.{signature}") == 401


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256", "kid": "one", "crit": ["exp"]},
        {"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]},
        {"alg": "RS256", "kid": "one", "enc": "A128GCM"},
        {"alg": "RS256", "kid": "one", "zip": "DEF"},
        [],
        "alg",
        b"\xff\xfe",
        b"{",
        b"[" * 20_000 + b"]" * 20_000,
        b'{"alg": "RS256", "kid": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"alg": "RS256", "kid": "one", "x": ' + b"9" * 20_000 + b"}",
    ],
)
def test_heads_that_are_hard_to_read(port: int, provider: Provider, header: object) -> None:
    """Nested, endless, of another kind or of no kind: 401, and never a defect."""
    assert status(port, unsigned(provider, header, bytes(256))) == 401


@pytest.mark.parametrize("text", ["a.b.c.d.e", "." * 1000, "a" * 50_000, "..", "%00.%00.%00"])
def test_texts_that_are_no_tokens(port: int, text: str) -> None:
    """Encrypted tokens, dots and noise."""
    assert status(port, text) == 401


def test_a_subject_is_no_key_s_owner(provider: Provider) -> None:
    """One that calls itself like a key's owner, or like another issuer's subject, is another."""
    tokens = Tokens(provider.issuer, AUDIENCE, "scope")
    owners = set()
    for subject in ("key:000000000000", "mallory", f"x\0{provider.issuer}", "oidc:mallory"):
        caller = tokens.find(provider.token("one", sub=subject))
        assert caller is not None
        assert re.fullmatch("oidc:[0-9a-f]{32}", caller.owner)
        owners.add(caller.owner)
    assert len(owners) == 4
