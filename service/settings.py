"""What an operator can set: flags over environment over defaults, checked once at the start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.encoding import Overflow
from models.engines import Spin
from models.errors import SettingsError
from models.pipeline import MAX_BATCH_TOKENS

PREFIX = "CLOZE_"
DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "lacuna-mini"


class Settings(BaseSettings):
    """The settings of one service. Each is read from `CLOZE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(DEFAULT_BUNDLE,),
        min_length=1,
        description="bundles or folders of bundles, comma-separated; "
        "the first that has a task answers",
    )
    precision: str | None = Field(
        default=None, description="which of a bundle's precisions to run; default fp32 if it has it"
    )
    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="the port to listen on")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="keys, comma-separated; with any, /v1 asks for a Bearer token"
    )
    api_keys_file: Path | None = Field(
        default=None, description="a file with one more key a line; # begins a comment"
    )
    overflow: Overflow = Field(
        default="error", description="what to do with texts that are too long: error or truncate"
    )
    max_inputs: int = Field(default=2048, ge=1, description="items one request may carry")
    max_body_bytes: int = Field(default=16 << 20, ge=1024, description="largest body read, bytes")
    max_batch_tokens: int = Field(
        default=MAX_BATCH_TOKENS, ge=1, description="tokens the trunk computes at once"
    )
    max_queue_tokens: int = Field(
        default=500_000, ge=1, description="tokens that may wait before requests get a 429"
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds a request may wait before it gets a 504",
    )
    threads: int = Field(default=0, ge=0, description="threads of the trunk; 0: one a core")
    spin: Spin = Field(
        default="auto",
        description="whether the trunk's threads keep their cores while they wait for each other: "
        "auto (where no quota limits them), on or off",
    )

    @field_validator("bundles", "api_keys", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _refuse_commas_alone(cls, value: Any) -> Any:
        # Whoever wrote that wanted keys, and would have none.
        if isinstance(value, str) and value.strip() and not value.replace(",", "").strip():
            raise SettingsError(
                f"{PREFIX}API_KEYS: {value!r} holds no key; name one, or unset it to serve "
                "without keys"
            )
        return value

    @model_validator(mode="after")
    def _read_keys(self) -> Self:
        if self.api_keys_file is not None:
            keys = (*self.api_keys, *_read_keys(self.api_keys_file))
            object.__setattr__(self, "api_keys", keys)  # frozen from here on
        return self


def _read_keys(file: Path) -> list[SecretStr]:
    """The keys of a file. Raises SettingsError: without its keys everyone would be let in."""
    setting = f"{PREFIX}API_KEYS_FILE"
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SettingsError(
            f"{setting}: {file} cannot be read ({error.strerror}); write one key a line into it, "
            "readable for the service, or unset it"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: {file} is not UTF-8 text; write one key a line") from None
    keys = [SecretStr(line) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(
            f"{setting}: {file} holds no key; write one a line, or unset it to serve without keys"
        )
    return keys


def read_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from flags and environment. Raises SettingsError, naming the setting."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    given = {name for name in os.environ if name.upper().startswith(PREFIX)}
    unknown = sorted(name for name in given if name.upper() not in known)
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a setting; known are {', '.join(sorted(known))}")
    try:
        return Settings(**dict(flags or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        # The value is told, since another may have set it (Kubernetes does); a key never is.
        value = "" if field == "api_keys" else f" is {first['input']!r}"
        raise SettingsError(
            f"{PREFIX}{field.upper()}{value}: {first['msg'][:1].lower()}{first['msg'][1:]}; "
            f"mend or unset it ({Settings.model_fields[field].description})"
        ) from None
