"""An OpenID Connect provider on loopback, which publishes its keys and signs tokens."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "liver-tumor"


class Provider:
    """Publishes keys and signs tokens; `asked` counts how often its keys were read."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked = 0
        self.is_down = False
        self.algorithms: dict[str, str] = {}
        self._may_answer = threading.Event()
        self._may_answer.set()
        self.says_it_is: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Meanwhile nothing is answered."""
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()

    def add_rsa(self, key_id: str) -> None:
        self.keys[key_id] = rsa.generate_private_key(65537, 2048)

    def token(self, key_id: str, algorithm: str = "RS256", **changes: Any) -> str:
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "anna@hospital.example",
                  "exp": time.time() + 60, "scope": "openid lts:read"} | changes  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.keys[key_id], algorithm, headers={"kid": key_id})

    def _published(self) -> list[dict[str, Any]]:
        listed = []
        for key_id, key in self.keys.items():
            kind = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
            said = {"alg": self.algorithms[key_id]} if key_id in self.algorithms else {}
            listed.append(kind.to_jwk(key.public_key(), as_dict=True) | {"kid": key_id} | said)
        return listed

    def _handler(provider) -> type[BaseHTTPRequestHandler]:  # `self` is the request's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._may_answer.wait(30)
                if provider.is_down:
                    self.send_error(503)
                    return
                if self.path == "/keys":
                    provider.asked += 1
                    answer: dict[str, Any] = {"keys": provider._published()}
                else:
                    issuer = provider.says_it_is or provider.issuer
                    answer = {"issuer": issuer, "jwks_uri": f"{provider.issuer}/keys"}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
