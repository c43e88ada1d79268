"""`python -m service`: the same flow without a server, and a server that refuses open doors."""

import fcntl
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import requests
import typer
from conftest import ROOT
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from benchmarks.load import free_port
from service import starting
from service.__main__ import app
from service.access.keys import Keys
from service.phantom import Phantom
from service.settings import Settings

RUNNER = CliRunner()


def service(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_segment_a_folder(tmp_path: Path) -> None:
    """A phantom written as DICOM is segmented with the model of the repository."""
    written = RUNNER.invoke(
        app, ["phantom", "--out", str(tmp_path / "ct"), "--slices", "12", "--size", "128"]
    )
    assert written.exit_code == 0, written.output
    assert f"liver {Phantom.draw(7).liver_ml:.1f} mL" in written.output
    done = service("segment", tmp_path / "ct", "--out", tmp_path / "result")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["source"]["slices"] == 12
    assert result["model"]["name"] == "liver-tumor"
    names = {str(p.relative_to(tmp_path / "result")) for p in (tmp_path / "result").rglob("*")}
    assert {"contours.json", "mask.dcm", "mask.nii.gz", "preview.png"} <= names
    assert {f"overlays/{index:04d}.png" for index in range(12)} <= names


def test_segment_a_folder_of_images(tmp_path: Path) -> None:
    """Images of a folder are a stack in the natural order of their names."""
    (tmp_path / "stack").mkdir()
    for number in (1, 2, 10):
        picture = np.full((64, 64), 20 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "stack" / f"slice{number}.png"), picture)
    done = RUNNER.invoke(app, ["segment", str(tmp_path / "stack"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    overlays = sorted((tmp_path / "out" / "overlays").iterdir())
    greys = [int(np.median(cv2.imread(str(path)))) for path in overlays]
    assert greys == pytest.approx([20, 40, 200], abs=1)


def test_segment_says_what_is_wrong(tmp_path: Path) -> None:
    """A refusal is one line with the sentence of its code, and exit status 1."""
    (tmp_path / "letter.txt").write_text("Dear colleague")
    done = service("segment", tmp_path, "--out", tmp_path / "result")
    assert done.returncode == 1
    assert "of no format that the service takes" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


GRACE_S = 60

EVERYWHERE = "0.0.0.0"  # noqa: S104  # asked for, and refused


def test_open_doors_end_the_service(tmp_path: Path) -> None:
    """Beyond loopback it starts only with a key, or told that nobody is asked who calls."""
    settings = {"LTS_DATA_DIR": str(tmp_path), "LTS_HOST": EVERYWHERE}
    done = service("serve", **settings)
    assert done.returncode == 1
    assert "LTS_HOST" in done.stderr
    assert "LTS_ALLOW_UNAUTHENTICATED" in done.stderr


def refused(capsys: pytest.CaptureFixture[str], **settings: object) -> str:
    """What is said of these settings; nothing where the service would start."""
    with suppress(typer.Exit):
        starting.refuse_open_doors(Settings(**settings))
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["host", "bind"])
@pytest.mark.parametrize("address", [EVERYWHERE, "192.0.2.1", "::", "example.org"])
def test_open_addresses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, address: str
) -> None:
    """They are named where nothing else says that they may be open; a key says so."""
    open_at = {"data_dir": tmp_path, name: address}
    assert f"LTS_{name.upper()}" in refused(capsys, **open_at)
    assert not refused(capsys, **open_at, allow_unauthenticated=True)
    provider = {"oidc_issuer": "https://id.example", "oidc_audience": "x"}
    assert not refused(capsys, **open_at, **provider)
    keys = Keys(Settings(**open_at).registry_url)
    keys.create("first", ["read"])
    assert not refused(capsys, **open_at)
    keys.close()


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"host": "127.0.0.7"}, {"host": "::1"}, {"host": "localhost"},
        {"host": EVERYWHERE, "bind": "127.0.0.1"},  # in a container that publishes on loopback
    ],
)  # fmt: skip
def test_addresses_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, str]
) -> None:
    """They need no key, and no database is made for the question."""
    assert not refused(capsys, data_dir=tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    """The key is the only thing on its line, and lists show all but the secret."""
    folder = {"LTS_DATA_DIR": str(tmp_path / "data")}
    arguments = ("--scope", "read", "--scope", "write", "--rate-per-minute", "30", "--days", "90")
    made = service("keys", "create", "ward 3 [red]", *arguments, **folder)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"lts_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    key_id, secret = made.stdout.strip().split("_", 2)[1:]
    listed = service("keys", "list", **folder).stdout
    row = next(line for line in listed.splitlines() if key_id in line)
    for shown in ("ward 3 [red]", "read write", "30", "valid"):
        assert shown in row
    assert secret[:10] not in listed
    replaced = service("keys", "replace", key_id, **folder)
    assert re.fullmatch(r"lts_\w{12}_\S{43}\n", replaced.stdout)
    assert service("keys", "revoke", key_id, **folder).returncode == 0
    again = service("keys", "revoke", key_id, **folder)
    assert again.returncode == 1
    assert "not revoked" in again.stderr
    assert "revoked" in service("keys", "list", **folder).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "--scope", "root"), ("x", "--days", "0"), ("x", "--rate-per-minute", "0"),
        ("",), ("x" * 65,), ("two\nlines",),
    ],
)  # fmt: skip
def test_keys_that_are_not_made(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    made = RUNNER.invoke(app, ["keys", "create", *arguments], env={"LTS_DATA_DIR": str(tmp_path)})
    assert made.exit_code == 2
    assert "Usage" in made.output
    assert not list(tmp_path.iterdir())


def test_a_certificate_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no certificate, a key of another one, or a missing file ends the process in words."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        certificate(tmp_path / folder, "127.0.0.1")
    (tmp_path / "text.pem").write_text("no certificate")
    for cert, key in (
        ("text.pem", "text.pem"), ("one/cert.pem", "other/key.pem"), ("one/cert.pem", "none.pem"),
    ):  # fmt: skip
        settings = Settings(tls_certificate=tmp_path / cert, tls_key=tmp_path / key)
        with pytest.raises(typer.Exit):
            starting.check_certificate(settings)
        assert "LTS_TLS_CERTIFICATE" in capsys.readouterr().err
    starting.check_certificate(
        Settings(tls_certificate=tmp_path / "one/cert.pem", tls_key=tmp_path / "one/key.pem")
    )


@pytest.mark.parametrize(
    "half",
    [{"tls_key": "key.pem"}, {"oidc_issuer": "https://id.example"}, {"store_access_key": "x"}],
)
def test_settings_that_go_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, half: dict[str, str]
) -> None:
    """One without the other is refused, and both are named."""
    for name, value in half.items():
        monkeypatch.setenv(f"LTS_{name.upper()}", value)
    with pytest.raises(typer.Exit):
        starting.read_settings()
    assert re.search(r"LTS_\w+ and LTS_\w+ together", capsys.readouterr().err)


def test_settings_from_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file named like the variable holds its value; the variable itself comes first."""
    (tmp_path / "lts_database_url").write_text("postgresql://user:word@db/lts\n")
    (tmp_path / "lts_port").write_text("8001")
    monkeypatch.setattr(starting, "SECRETS", tmp_path)
    monkeypatch.setenv("LTS_PORT", "8002")
    settings = starting.read_settings()
    assert settings.database_url == "postgresql://user:word@db/lts"
    assert settings.port == 8002


def test_https(tmp_path: Path) -> None:
    """With a certificate the service speaks TLS 1.2 and later, and tells browsers to stay.

    A client that keeps its connection does not hold up the end.
    """
    certificate(tmp_path, "127.0.0.1")
    port = free_port()
    settings = {
        "LTS_TLS_CERTIFICATE": f"{tmp_path}/cert.pem",
        "LTS_TLS_KEY": f"{tmp_path}/key.pem",
        "LTS_PORT": str(port),
        "LTS_DATA_DIR": str(tmp_path / "data"),
        "LTS_DEVICE": "cpu",
        "LTS_HSTS_S": "60",
        "LTS_GRACE_S": str(GRACE_S),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"], cwd=ROOT, env=os.environ | settings
    )
    try:
        session = requests.Session()
        session.trust_env = False  # which may name another bundle of certificates
        session.verify = str(tmp_path / "cert.pem")
        answer = wait_for(session, f"https://127.0.0.1:{port}/health/live")
        assert answer.json() == {"status": "live"}
        assert answer.headers["Strict-Transport-Security"] == "max-age=60"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLError, match=r"EOF|ALERT"),
        ):
            old.wrap_socket(plain)
    finally:
        process.terminate()
        assert process.wait(GRACE_S / 2) == 0


def certificate(folder: Path, address: str) -> None:
    """A certificate for an address, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    listed = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    made = builder.add_extension(listed, critical=False).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(secret)


def wait_for(session: requests.Session, address: str) -> requests.Response:
    """The first answer of a service that starts."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return session.get(address, timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_cuda_that_is_not_there_ends_at_start() -> None:
    """LTS_DEVICE=cuda names what is missing, and ends the process."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.fail("the development set is installed with `cpu`; a GPU build belongs in .venv")
    done = service("serve", LTS_DEVICE="cuda")
    assert done.returncode == 1
    assert "install the set `gpu`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_has_one_service(tmp_path: Path) -> None:
    """A second one on the same folder would take up the first one's jobs; it ends at start."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = service("serve", LTS_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "another process" in done.stderr


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The service says so and ends."""
    (tmp_path / "file").touch()
    done = service("serve", LTS_DATA_DIR=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "LTS_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr
