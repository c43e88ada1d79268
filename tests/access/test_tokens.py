"""Bearer tokens of an OpenID Connect provider, which runs here on loopback."""

import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from token_provider import AUDIENCE, Provider

from service.access import tokens as module
from service.access.tokens import Tokens
from service.errors import Unavailable


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    made.add_rsa("one")
    yield made
    made.close()


@pytest.fixture
def tokens(provider: Provider) -> Tokens:
    return Tokens(provider.issuer, AUDIENCE, "scope")


def test_a_token_opens_what_it_lists(provider: Provider, tokens: Tokens) -> None:
    """Its subject is known by a hash, which is the same each time and nobody else's."""
    caller = tokens.find(provider.token("one"))
    assert caller is not None
    assert caller.scopes == {"read"}
    assert "anna" not in str(caller)
    again = tokens.find(provider.token("one", scope="lts:read"))
    assert again is not None
    assert again.owner == caller.owner
    other = tokens.find(provider.token("one", sub="berta"))
    assert other is not None
    assert other.owner != caller.owner


@pytest.mark.parametrize(
    ("listed", "scopes"),
    [
        (["lts:read", "lts:write"], {"read", "write"}),
        ("lts:admin", {"admin"}),
        ("read write admin", set()),
        ("lts:reader lts:Admin", set()),
        (None, set()),
        ({"lts:admin": True}, set()),
        (7, set()),
        ([["lts:admin"]], set()),
    ],
)
def test_scopes_of_a_token(
    provider: Provider, tokens: Tokens, listed: object, scopes: set[str]
) -> None:
    """Words or a list of them, with the service's prefix; anything else allows nothing."""
    caller = tokens.find(provider.token("one", scope=listed))
    assert caller is not None
    assert caller.scopes == scopes


def test_another_claim_may_list_the_scopes(provider: Provider) -> None:
    caller = Tokens(provider.issuer, AUDIENCE, "roles").find(
        provider.token("one", roles=["lts:write"])
    )
    assert caller is not None
    assert caller.scopes == {"write"}


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"}, {"aud": None}, {"iss": "http://evil.example"}, {"iss": None},
        {"exp": 1_000_000}, {"exp": None}, {"exp": "soon"}, {"sub": None},
        {"nbf": 4_000_000_000},
    ],
)  # fmt: skip
def test_tokens_that_open_nothing(
    provider: Provider, tokens: Tokens, changes: dict[str, object]
) -> None:
    """Of another audience or issuer, expired or not yet valid, or without what a token must say."""
    assert tokens.find(provider.token("one", **changes)) is None


def test_texts_that_are_no_tokens(tokens: Tokens) -> None:
    for text in ("", "x", "a.b.c", "e30.e30.e30", "." * 10, "é.é.é"):
        assert tokens.find(text) is None


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
@pytest.mark.parametrize("says", [True, False])
def test_rsa(provider: Provider, tokens: Tokens, algorithm: str, says: bool) -> None:
    """A published key may say for which algorithm it is, and need not."""
    provider.algorithms = {"one": algorithm} if says else {}
    assert tokens.find(provider.token("one", algorithm)) is not None
    if says:
        other = "RS256" if algorithm != "RS256" else "PS256"
        assert tokens.find(provider.token("one", other)) is None


@pytest.mark.parametrize(("curve", "algorithm"), [(ec.SECP256R1, "ES256"), (ec.SECP384R1, "ES384")])
def test_elliptic_curves(
    provider: Provider, tokens: Tokens, curve: type[ec.EllipticCurve], algorithm: str
) -> None:
    provider.keys["curve"] = ec.generate_private_key(curve())
    assert tokens.find(provider.token("curve", algorithm)) is not None


def test_a_key_of_another_algorithm(provider: Provider, tokens: Tokens) -> None:
    """A token is checked by the algorithm of its key, whatever it says itself."""
    provider.keys["curve"] = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(
        {"iss": provider.issuer, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 60},
        provider.keys["one"],
        "RS256",
        headers={"kid": "curve"},
    )
    assert tokens.find(forged) is None


def test_a_key_that_was_added(
    provider: Provider, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is asked for a key that is not known, but not for each token that names one."""
    assert tokens.find(provider.token("one")) is not None
    provider.add_rsa("two")
    for _ in range(5):
        assert tokens.find(provider.token("two")) is None
    assert provider.asked == 1
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0)
    assert tokens.find(provider.token("two")) is not None
    assert provider.asked == 2


def test_a_provider_that_is_away(
    provider: Provider, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of known keys are good meanwhile; before that nobody can say."""
    provider.is_down = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            tokens.find(provider.token("one"))
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0)
    provider.is_down = False
    assert tokens.find(provider.token("one")) is not None
    provider.is_down = True
    monkeypatch.setattr(module, "_KEYS_LIVE_S", 0)
    assert tokens.find(provider.token("one")) is not None


def test_a_provider_that_takes_its_time(
    provider: Provider, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of known keys do not wait for it, others not for long, and it is asked by one."""
    assert tokens.find(provider.token("one")) is not None
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0)
    monkeypatch.setattr(module, "_WAIT_S", 0.1)
    provider.add_rsa("two")
    with provider.holding():
        for _ in range(3):
            with pytest.raises(Unavailable):
                tokens.find(provider.token("two"))
            began = time.monotonic()
            assert tokens.find(provider.token("one")) is not None
            assert time.monotonic() - began < 0.1
    monkeypatch.setattr(module, "_WAIT_S", 5)
    assert tokens.find(provider.token("two")) is not None
    assert provider.asked == 2


def test_a_provider_that_is_another(provider: Provider, tokens: Tokens) -> None:
    """Its description has to name the issuer that the settings name."""
    provider.says_it_is = "https://evil.example"
    with pytest.raises(Unavailable):
        tokens.find(provider.token("one"))
