"""What the service can be told, by environment variables that begin with `RECSYS_`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.errors import ConfigError

MIN_KEY_LENGTH = 16


class Settings(BaseSettings):
    """The service's settings, closed and frozen: `RECSYS_RUN=RUNS/live RECSYS_THREADS=2 …`."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, use_attribute_docstrings=True)

    run: Path = Path("runs/live")
    """A run, `RUNS/live`, or `RUNS`. Where it is a link, the service follows it when it moves."""
    features: Path | None = None
    """The feature store's folder; `features` beside the run when not given."""
    feature_source: Literal["online", "snapshot"] = "online"
    """`snapshot` reads the run's own copy of the user features: no store, and nothing newer than the run."""
    threads: int = Field(1, ge=1, le=256)
    """Threads of FAISS and ONNX Runtime in one call; requests already run side by side."""
    concurrency: int = Field(default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=256)
    """Requests computed side by side; further ones wait."""
    max_in_flight: int = Field(64, ge=1)
    """Requests waiting or computing; beyond it the service refuses with 503 at once."""
    max_body_bytes: int = Field(1_048_576, ge=1024)
    """Larger request bodies are refused with 413."""
    feature_timeout_ms: float = Field(200.0, gt=0)
    """A feature read that takes longer is given up, and the answer marked `features_unavailable`."""
    feature_cooldown_seconds: float = Field(5.0, ge=0)
    """After three failed reads in a row the store is left alone for this long."""
    max_run_age_days: float = Field(30.0, gt=0)
    """Data of an older run is answered as of its own end, and marked `stale_run`."""
    poll_seconds: float = Field(5.0, gt=0)
    """How often the run's link is looked at."""
    augment: Literal["run", "on", "off"] = "run"
    """Views of short histories: as the run has measured and decided, always, or never."""
    search: bool = True
    """Offer `POST /v1/search`: the text encoder is loaded, some 150 MB."""
    rules: Path | None = None
    """A TOML file with settings of `[rules]` that come before the run's own; read again when it changes."""
    verify: bool = True
    """Check the run's files against its manifest before serving it."""
    api_keys: SecretStr = SecretStr("")
    """Keys that `/v1` asks for in `X-API-Key`, separated by commas; empty asks for none."""

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key) < MIN_KEY_LENGTH for key in _split(value)):
            raise ValueError(f"an API key needs at least {MIN_KEY_LENGTH} characters")
        return value

    def keys(self) -> tuple[bytes, ...]:
        """The API keys; empty when none is asked for."""
        return tuple(key.encode() for key in _split(self.api_keys))


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        ConfigError: a variable is out of its bounds; its value is not repeated, since it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "RECSYS_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(f"{name}: {first['msg']}") from None


def _split(value: SecretStr) -> list[str]:
    return [key.strip() for key in value.get_secret_value().split(",") if key.strip()]
