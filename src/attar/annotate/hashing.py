"""What is kept of secrets: argon2 hashes of passwords, SHA-256 of sessions and tokens, so that a
stolen database lets nobody in."""

import hashlib
import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from attar.errors import ConfigError

#: characters of a password
SHORTEST, LONGEST = 8, 1024


def hash_password(password: str) -> str:
    """What is kept of a password.

    Raises:
        ConfigError: it is too short or too long, or no text.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(
            f"expected a password of {SHORTEST} to {LONGEST} characters; found {len(password)}"
        )
    try:
        return hasher().hash(password)
    except UnicodeEncodeError:
        raise ConfigError(
            "expected a password of characters, found bytes that are no UTF-8; choose another"
        ) from None


def fits(stored: str, password: str) -> bool:
    """Whether this is the password of a hash."""
    try:
        return len(password) <= LONGEST and hasher().verify(stored, password)
    except (VerifyMismatchError, InvalidHashError, UnicodeEncodeError):
        return False


@cache
def hasher() -> PasswordHasher:
    """Of passwords, with as much work as argon2 advises."""
    return PasswordHasher()


@cache
def nobody() -> str:
    """The hash of a password that nobody has."""
    return hasher().hash(secrets.token_urlsafe(32))


def digest_of(secret: str) -> str:
    """What is kept of a secret of our own making, which is too long to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
