"""Settings: one frozen object, read once from LTS_ environment variables at the entry point."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DevicePolicy = Literal["auto", "cuda", "cpu"]

Listed = Annotated[tuple[str, ...], NoDecode]
"""Texts with commas between them."""

SAFE_ADDRESS = r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])"
"""Where secrets may be asked for: over TLS, or on this machine."""

MODELS_FOLDER = Path(__file__).parent.parent / "models"

GIB = 1024**3


class Settings(BaseSettings):
    """What an operator can set. Every limit names its unit and its reason."""

    model_config = SettingsConfigDict(
        env_prefix="LTS_",
        env_ignore_empty=True,  # compose hands on what is not set as an empty text
        frozen=True,
        extra="ignore",
    )

    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    bind: str | None = Field(
        None,
        description="Address where a container's engine publishes the port, which then decides in "
        "`host`'s place whether callers need a key.",
    )
    allow_unauthenticated: bool = Field(
        False,
        description="Listen beyond loopback although nobody is asked who calls.",
    )
    allowed_hosts: Listed = Field(
        (),
        description="Names under which callers without keys may address the service, beside "
        "localhost and IP addresses; another site's name may point here, too.",
    )
    allowed_origins: Listed = Field(
        (),
        description="Origins (https://host) of other sites whose pages may call the service.",
    )
    open_metrics: bool = Field(
        False, description="Answer /metrics without a key, where only Prometheus reaches the port."
    )
    failed_keys_per_minute: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description="Guesses at a key that an address may send a minute to a process; then 429.",
    )
    oidc_issuer: str | None = Field(
        None,
        pattern=SAFE_ADDRESS,
        description="OpenID Connect provider whose bearer tokens are taken, too.",
    )
    oidc_audience: str | None = Field(
        None, min_length=1, description="What those tokens must name as their audience."
    )
    oidc_scope_claim: str = Field(
        "scope",
        min_length=1,
        description="Claim of those tokens that lists `lts:read`, `lts:write`, `lts:admin`.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file with the certificate and its chain, to serve HTTPS."
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key.")
    hsts_s: int = Field(
        0,
        ge=0,
        description="Seconds for which browsers shall ask this host by HTTPS only, on all its "
        "ports; 0: not said.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder for uploads, jobs and results, of one process; mode 0700.",
    )
    min_free_bytes: int = Field(
        32 * 1024**2,
        ge=0,
        description="Free bytes of that folder's disk below which nothing new is accepted.",
    )
    model: Path = Field(
        MODELS_FOLDER / "liver-tumor.onnx", description="ONNX model with its contract inside."
    )
    device: DevicePolicy = Field(
        "auto",
        description="`cuda` fails at start where CUDA cannot load; `auto` takes it where it can.",
    )
    threads: int = Field(
        0, ge=0, le=256, description="Threads of inference on the CPU; 0: all cores."
    )
    batch_slices: int = Field(
        4, ge=1, le=64, description="Slices in inference at once; more cost memory, few cost speed."
    )
    max_running: int = Field(
        2, ge=1, le=64, description="Volumes worked on at once; each is held in memory."
    )
    max_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Requests that wait; above it 503, so that none waits long.",
    )
    max_jobs: int = Field(
        64,
        ge=1,
        le=100_000,
        description="Durable segmentations not yet finished, in all processes; above it 503.",
    )
    max_jobs_bytes: int = Field(
        32 * GIB, ge=1, description="Bytes of their input; above it 503, unless there is only one."
    )
    max_watchers: int = Field(
        256, ge=1, le=100_000, description="Streams of events at once; above it 503."
    )
    rate_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests for work a caller may send a minute to a process, 0: any; then 429.",
    )
    retention_h: float = Field(
        168, ge=0, le=876_000, description="Hours for which a result is kept; 0: until deleted."
    )
    grace_s: float = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which what runs may end; then it is handed back.",
    )
    max_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory of the process above which a job fails (CPU only); 0: what it has.",
    )
    database_url: str | None = Field(
        None,
        pattern=r"^postgresql://",
        description="PostgreSQL of several processes; by default SQLite in the data folder.",
    )
    store_url: str | None = Field(
        None,
        pattern=r"^(s3://[^/]+|file:///)",
        description="Bucket (s3://bucket/prefix) or shared folder (file:///path) of results.",
    )
    store_access_key: SecretStr | None = Field(
        None, description="Access key of the bucket; by default AWS_ACCESS_KEY_ID or the role's."
    )
    store_secret_key: SecretStr | None = Field(
        None, description="Secret key of the bucket; by default AWS_SECRET_ACCESS_KEY."
    )
    dead_s: float = Field(
        15,
        ge=3,
        le=600,
        description="Seconds of silence after which another process takes over one's jobs.",
    )
    deadline_s: float = Field(
        600,
        gt=0,
        le=86_400,
        description="Seconds for one stateless answer, waiting included; then 503.",
    )
    wait_s: float = Field(
        30, ge=0, le=600, description="Seconds a durable POST waits for its result by default."
    )
    max_uploads: int = Field(
        128, ge=1, le=10_000, description="Bodies that arrive at once; above it 503."
    )
    upload_grace_s: float = Field(
        30, gt=0, le=86_400, description="Seconds before a body's rate of arrival counts."
    )
    min_upload_bytes_per_s: int = Field(
        16 * 1024, ge=1, description="Slowest rate of arrival; a body below it ends with 408."
    )
    max_request_bytes: int = Field(
        GIB, ge=1, description="Bytes of one request's body; a CT of 1,500 slices has 0.8 GB."
    )
    max_decompressed_bytes: int = Field(
        4 * GIB, ge=1, description="Bytes of one request after decompression: zip bombs end here."
    )
    max_files: int = Field(
        5_000, ge=1, description="Files in one request, in the form or inside an archive."
    )
    max_voxels: int = Field(
        512 * 512 * 1500, ge=1, description="Voxels of one volume; bounds memory at 0.8 GB of HU."
    )
    pacs_file: Path | None = Field(
        None, description="TOML file that names PACS nodes and the callers of `listen`."
    )
    pacs_timeout_s: float = Field(
        30, gt=0, le=3600, description="Seconds without an answer until a PACS counts as down."
    )
    pacs_retry_s: float = Field(
        600,
        ge=0,
        le=7 * 86_400,
        description="Seconds for which a fetch or a delivery that fails is tried again.",
    )
    listen_host: str = Field("127.0.0.1", description="Address of `listen`; loopback by default.")
    listen_port: int = Field(11112, ge=1, le=65535, description="TCP port of `listen` (DIMSE).")
    listen_metrics_port: int = Field(
        0, ge=0, le=65535, description="TCP port of its metrics at that address (HTTP); 0: none."
    )
    listen_ae_title: str = Field(
        "LIVERTUMOR",
        max_length=16,
        pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$",  # PS3.5 6.2: no backslash, not only spaces
        description="Application entity title of `listen`.",
    )
    listen_associations: int = Field(
        16, ge=1, le=256, description="Associations at once; one more is rejected for now."
    )
    listen_quiet_s: float = Field(
        20,
        gt=0,
        le=3600,
        description="Seconds without a new instance after which a series is whole.",
    )
    listen_min_free_bytes: int = Field(
        GIB, ge=0, description="Free bytes of the disk below which `listen` takes no instance."
    )
    listen_keep_refused_h: float = Field(
        72, ge=0, le=8760, description="Hours for which a series that was refused is kept."
    )
    service_url: str = Field(
        "http://127.0.0.1:8000", description="Where `listen` finds the service that segments."
    )
    service_key: SecretStr | None = Field(
        None, description="Key that `listen` sends to it, with the scope `write`."
    )

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(item.strip() for item in value.split(",") if item.strip())

    @field_validator("allowed_hosts")
    @classmethod
    def _names_alone(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if any(":" in host or "/" in host for host in hosts):
            raise ValueError("expected names without scheme and port")
        return tuple(host.lower() for host in hosts)

    @field_validator("allowed_origins")
    @classmethod
    def _origins_alone(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[^/]+", origin) for origin in origins):
            raise ValueError("expected origins such as https://viewer.example, without a path")
        return tuple(origin.lower() for origin in origins)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        for one, other in (
            ("oidc_issuer", "oidc_audience"),
            ("tls_certificate", "tls_key"),
            ("store_access_key", "store_secret_key"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                names = f"LTS_{one.upper()} and LTS_{other.upper()}"
                raise ValueError(f"expected {names} together, found one of them")
        return self

    @property
    def exposed(self) -> str:
        """The address at which the service can be reached."""
        return self.bind or self.host

    @property
    def received_folder(self) -> Path:
        """Where `listen` keeps series until the service has them."""
        return self.data_dir / "received"

    @property
    def lock_file(self) -> Path:
        """Locked by the one process that works with the folder."""
        return self.data_dir / "lock"

    @property
    def spool_folder(self) -> Path:
        """Where uploads wait while their request lasts."""
        return self.data_dir / "uploads"

    @property
    def store_folder(self) -> Path:
        """Where durable segmentations are kept."""
        return self.data_dir / "segmentations"

    @property
    def registry_url(self) -> str:
        """The database of all jobs."""
        return self._database("jobs.sqlite")

    @property
    def engine_url(self) -> str:
        """The database of the engine; a file of its own, or SQLite's one writer would wait."""
        return self._database("steps.sqlite")

    def _database(self, file: str) -> str:
        if self.database_url is None:
            return f"sqlite:///{(self.data_dir / file).resolve()}"
        return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
