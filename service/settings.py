"""Settings: one frozen object, read once from LTS_ environment variables at the entry point."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DevicePolicy = Literal["auto", "cuda", "cpu"]

MODELS_FOLDER = Path(__file__).parent.parent / "models"

GIB = 1024**3


class Settings(BaseSettings):
    """What an operator can set. Every limit names its unit and its reason."""

    model_config = SettingsConfigDict(env_prefix="LTS_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    allow_unauthenticated: bool = Field(
        False,
        description="Listen beyond loopback although nobody is asked who calls.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder for uploads above 1 MiB while their request lasts; mode 0700.",
    )
    model: Path = Field(
        MODELS_FOLDER / "liver-tumor.onnx", description="ONNX model with its contract inside."
    )
    device: DevicePolicy = Field(
        "auto",
        description="`cuda` fails at start where CUDA cannot load; `auto` takes it where it can.",
    )
    threads: int = Field(
        0, ge=0, le=256, description="Threads of one inference on the CPU; 0: all cores."
    )
    batch_slices: int = Field(
        4, ge=1, le=64, description="Slices in one inference; more cost memory, few cost speed."
    )
    max_running: int = Field(
        2, ge=1, le=64, description="Requests worked on at once; each holds its volume in memory."
    )
    max_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Requests that wait; above it 503, so that none waits long.",
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
