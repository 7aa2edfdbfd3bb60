"""The options of the server."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from attar.errors import ConfigError, check_types, require

KEY = "ATTAR_API_KEY"
"""The environment variable with API keys, separated by commas."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a model is served."""

    host: str = "127.0.0.1"
    """Address to listen at. Unless it is this machine's own (loopback), an API key is needed."""
    port: int = 8000
    """Port to listen at; 0 takes one that is free."""
    api_key: tuple[str, ...] = ()
    """Key that clients must send; may be given several times. Unset: those in the environment
    variable ATTAR_API_KEY, separated by commas; if that is not set either, no key is needed."""
    cors: tuple[str, ...] = ()
    """Origin of a web page that may send requests, such as https://example.org; may be given
    several times."""
    name: str | None = None
    """What clients call the model. Unset: the name of its folder or file."""
    rows: int = 8
    """Texts that are generated at a time, in one batch."""
    queue: int = 64
    """Further texts that may wait; beyond that, clients are told to try again later (429)."""
    context: int | None = None
    """Tokens of a prompt with its completion, at most. Unset: the model's, and no more than
    4096. The cache grows up to that many tokens for each row."""
    chunk: int = 256
    """Tokens of prompts read in one pass: fewer, and a long prompt holds up others less."""
    time_budget: float | None = None
    """Milliseconds that a request may take; then it returns what it has. A request may ask for
    less."""
    mode: Literal["sampled", "speculative", "superposed"] | None = None
    """How texts are generated unless a request says otherwise. Unset: speculative where there is a
    draft. That is fastest for one client at a time; for many, sampled in a batch is. superposed
    ranks several short drafts in place of sampling, and n of them cost about as much as one."""
    results: int = 256
    """Suggestions that are remembered for type-ahead; 0: none."""
    max_body: int = 4 * 2**20
    """Bytes of a request, at most."""
    grace: float = 30.0
    """Seconds that running requests may take to finish when the server is stopped; then they return
    what they have."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 <= self.port < 2**16, "port", self.port, "between 0 and 65535")
        for name in ("rows", "chunk", "max_body"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("queue", "results", "grace"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        context, budget = self.context, self.time_budget
        require(context is None or context >= 2, "context", context, "at least 2")
        require(budget is None or budget > 0, "time_budget", budget, "above 0")
        fine = all(key.isascii() and key.strip() == key != "" for key in self.api_key)
        require(fine, "api_key", "what was given", "ASCII characters without spaces around them")


def keys_of(config: ServeConfig, environment: str | None) -> tuple[str, ...]:
    """The API keys: those of the options, else those of the environment variable.

    Raises:
        ConfigError: other machines can reach the server, and there are none.
    """
    given = [key.strip() for key in (environment or "").split(",")]
    keys = config.api_key or tuple(key for key in given if key)
    if not keys and not _is_loopback(config.host):
        raise ConfigError(
            f"other machines can reach host {config.host}, so clients must have a key: give "
            f"--api-key, or set {KEY}"
        )
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
