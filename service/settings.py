"""What an operator can set: flags over environment over defaults, checked once at the start."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.bundle.bundle import MIN_COSINE
from models.choice import AUTO, MAX_BATCH_TOKENS, list_engines
from models.derived.attention import MAX_ATTENTION_TOKENS
from models.engines import Spin
from models.errors import SettingsError
from models.text.truncation import Overflow
from service.keys import Key, check_apart, parse_keys, read_keys

Access = Literal["open", "key", "off"]
# What becomes of a request of whose items one cannot be answered.
OnError = Literal["fail", "skip"]
# Ways of asking that can be switched off: folders of service/api.
DialectName = Literal["huggingface", "tei", "cohere", "infinity", "kserve"]

PREFIX = "CLOZE_"
DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "lacuna-mini"
# As browsers write it: in lower case, without a path.
_ROOT = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]_-]+")


class Settings(BaseSettings):
    """The settings of one service. Each is read from `CLOZE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(DEFAULT_BUNDLE,),
        min_length=1,
        description="bundles or folders of bundles, comma-separated; "
        "the first that has a task answers",
    )
    aliases: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        default=(),
        description="other names for models, comma-separated: ALIAS=MODEL; *=MODEL for all names "
        "that no model has",
    )
    precision: str | None = Field(
        default=None,
        description="which of a bundle's precisions to run; default fp32 if it has it; auto: the "
        "lightest whose proof has no cosine below CLOZE_MIN_COSINE",
    )
    min_cosine: float = Field(
        default=MIN_COSINE,
        ge=-1,
        le=1,
        description="the least cosine to the original's vectors that the precision auto may have",
    )
    default_prompt: str | None = Field(
        default=None,
        description="which of a model's prompts goes before texts whose request names none, where "
        "it has one of that name; left out, the one that its checkpoint has for that",
    )
    engine: str = Field(
        default=AUTO,
        description="what runs the graphs: kernels, onnxruntime, openvino, cuda, or auto for the "
        "fastest that is installed and runs here",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="where it is kept which engine was found the fastest here; default: cloze in "
        "the user's cache folder, and where that cannot be written it is found anew at each start",
    )
    host: str = Field(
        default="127.0.0.1",
        description="the address to listen on: of IPv4 or IPv6, a name, * for all of both, or "
        "unix:PATH for a socket of this machine",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="the port to listen on")
    root_path: str = Field(
        default="",
        description="what a gateway leaves before each path, like /bert; paths without it are "
        "answered too",
    )
    api_keys: Annotated[tuple[Key, ...], NoDecode] = Field(
        default=(),
        description="keys, comma-separated: KEY, name:KEY or name:sha256:HEX; "
        "with any, /v1 asks for a Bearer token",
    )
    api_keys_file: Path | None = Field(
        default=None, description="a file with one more key a line; # begins a comment"
    )
    admin_keys: Annotated[tuple[Key, ...], NoDecode] = Field(
        default=(), description="keys, comma-separated; with any, /admin is there and asks for one"
    )
    admin_keys_file: Path | None = Field(
        default=None, description="a file with one more admin key a line; # begins a comment"
    )
    rate_limit: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="requests a second of one key (without keys: of one address); 0: no limit",
    )
    rate_burst: int = Field(
        default=0,
        ge=0,
        description="requests that may come at once; 0: twice the rate, at least 1",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description="proxies that add to X-Forwarded-For; 0: the header is not believed",
    )
    docs: Access = Field(
        default="open", description="who may see /docs and /openapi.json: open, key or off"
    )
    metrics: Access = Field(default="open", description="who may see /metrics: open, key or off")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="origins whose pages may ask, comma-separated, like https://example.org; "
        "* for all",
    )
    overflow: Overflow = Field(
        default="error", description="what to do with texts that are too long: error or truncate"
    )
    on_error: OnError = Field(
        default="fail",
        description="what becomes of a request of whose items one cannot be answered: fail, or "
        "skip: it has an error in its place, and the others are answered",
    )
    unknown_fields: Literal["refuse", "ignore"] = Field(
        default="refuse",
        description="what becomes of a request with fields that its route does not know: refuse, "
        "or ignore: the header X-Ignored-Fields names them",
    )
    auto_truncate: bool = Field(
        default=True,
        description="whether texts that are too long are cut where other servers' clients, which "
        "expect it, say nothing: text-embeddings-inference's, Cohere's and their like",
    )
    dialects: Annotated[tuple[DialectName, ...], NoDecode] = Field(
        default=get_args(DialectName),
        description="whose clients may ask in their own words, comma-separated",
    )
    tei_metrics: bool = Field(
        default=False,
        description="whether /metrics has the names of text-embeddings-inference, too",
    )
    gzip: bool = Field(
        default=False,
        description="whether answers are packed with gzip for clients that take it; packed "
        "requests are always read",
    )
    max_inputs: int = Field(default=2048, ge=1, description="items one request may carry")
    max_body_bytes: int = Field(default=16 << 20, ge=1024, description="largest body read, bytes")
    max_characters: int = Field(
        default=4_000_000, ge=1, description="characters of text one request may carry"
    )
    max_attention_tokens: int = Field(
        default=MAX_ATTENTION_TOKENS,
        ge=1,
        le=1 << 11,
        description="tokens of a text whose attention is asked for",
    )
    max_header_bytes: int = Field(
        default=64 << 10, ge=1024, description="largest request line with headers read, bytes"
    )
    max_connections: int = Field(
        default=1000, ge=1, description="open connections; further ones get a 503"
    )
    max_pending_bytes: int = Field(
        default=0,
        ge=0,
        description="bytes of all requests held at once; further bodies get a 503; "
        "0: 128 MiB, or an eighth of the memory limit if that is less",
    )
    receive_timeout_s: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds in which a request must have arrived, else it gets a 408",
    )
    send_timeout_s: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds in which a client must take 64 KiB of its answer, or all that is left",
    )
    idle_timeout_s: float = Field(
        default=75.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds for which a connection is kept that nothing is asked over; longer "
        "than a proxy keeps its own",
    )
    max_batch_tokens: int = Field(
        default=MAX_BATCH_TOKENS,
        ge=1,
        description="tokens the trunk computes at once; on a GPU 16,384 unless it is set",
    )
    max_batch_ms: float = Field(
        default=100.0,
        gt=0,
        allow_inf_nan=False,
        description="predicted milliseconds a batch may take",
    )
    max_queue_ms: float = Field(
        default=10_000.0,
        gt=0,
        allow_inf_nan=False,
        description="predicted milliseconds of interactive work that may wait before a 429",
    )
    max_bulk_queue_ms: float = Field(
        default=60_000.0,
        gt=0,
        allow_inf_nan=False,
        description="predicted milliseconds of bulk work that may wait before a 429",
    )
    bulk_inputs: int = Field(
        default=32,
        ge=1,
        description="inputs above which a request is bulk unless it says otherwise",
    )
    overtaking: float = Field(
        default=2.0,
        ge=0,
        allow_inf_nan=False,
        description="times its own predicted cost for which shorter texts may overtake one; "
        "0: order of arrival",
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds within which a request is answered, else 429 or 504; "
        "X-Request-Timeout sets it for one request",
    )
    load_timeout_s: float = Field(
        default=600.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds that a bundle may take to compute its golden answers when loaded",
    )
    stall_s: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds after which a batch that stands still is ended",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds for requests under way to be answered once it is told to stop",
    )
    threads: int = Field(default=0, ge=0, description="threads of the trunk; 0: one a core")
    spin: Spin = Field(
        default="auto",
        description="whether the trunk's threads keep their cores while they wait for each other: "
        "auto (where no quota limits them), on or off",
    )
    access_log: Literal["off", "errors", "all"] = Field(
        default="errors", description="requests that get a line in the log: off, errors or all"
    )
    log_clients: bool = Field(
        default=False, description="whether lines of requests have the address of the client"
    )
    log_texts: bool = Field(
        default=False,
        description="whether the log may have what callers sent: the texts of failed requests, "
        "and messages of exceptions that may quote them",
    )

    @field_validator("bundles", "cors_origins", "dialects", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty, which would be every address; unset it, or write *")
        name, colon, port = value.rpartition(":")
        bracketed = name.startswith("[") and name.endswith("]")
        if colon and port.isdigit() and (":" not in name or bracketed) and name != "unix":
            raise ValueError(f"it holds a port; give that by itself, as --port {port}")
        return value

    @field_validator("aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        targets: dict[str, str] = {}
        for part in filter(None, map(str.strip, value.split(","))):
            alias, _, target = (side.strip() for side in part.partition("="))
            if not alias or not target:
                raise ValueError(f"{part!r} is no alias; write ALIAS=MODEL")
            if alias in targets:
                raise ValueError(f"{alias!r} is there twice; name it once")
            targets[alias] = target
        return tuple(targets.items())

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: Any, info: ValidationInfo) -> Any:
        setting = f"{PREFIX}{info.field_name}".upper()
        return parse_keys(value, setting) if isinstance(value, str) else value

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: str) -> str:
        if value not in list_engines():
            raise ValueError(f"there is no such engine; choose from {', '.join(list_engines())}")
        return value

    def limit_batch(self, usual: int) -> int:
        """How many tokens a batch may have: what was set, or what is usual for the engine."""
        return self.max_batch_tokens if "max_batch_tokens" in self.model_fields_set else usual

    @field_validator("root_path")
    @classmethod
    def _check_root(cls, value: str) -> str:
        root = value.rstrip("/")
        if root and not _ROOT.fullmatch(root):
            raise ValueError("it is no path; write it like /bert, of letters, digits and ._~-/")
        return root

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin; write scheme://host or scheme://host:port"
                )
        if "*" in value and len(value) > 1:
            raise ValueError("* stands for every origin; name it alone, or without it the others")
        return value

    @model_validator(mode="after")
    def _read_keys(self) -> Self:
        for name, file in (("api_keys", self.api_keys_file), ("admin_keys", self.admin_keys_file)):
            if file is not None:
                filed = read_keys(file, f"{PREFIX}{name}_file".upper())
                object.__setattr__(self, name, (*getattr(self, name), *filed))  # frozen from here
        if not self.api_keys:
            for field in ("docs", "metrics"):
                if getattr(self, field) == "key":
                    raise SettingsError(
                        f"{PREFIX}{field.upper()} is key, but there are no keys: nobody could see "
                        f"it; set {PREFIX}API_KEYS or {PREFIX}API_KEYS_FILE, or say off"
                    )
        check_apart(self.api_keys, self.admin_keys, f"{PREFIX}ADMIN_KEYS")
        return self


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
        value = "" if field in ("api_keys", "admin_keys") else f" is {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(
            f"{PREFIX}{field.upper()}{value}: {message[:1].lower()}{message[1:]}; "
            f"mend or unset it ({Settings.model_fields[field].description})"
        ) from None
