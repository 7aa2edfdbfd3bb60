"""Why the annotation service refuses what somebody asks for; each has its HTTP status.

Nothing that an annotator did is lost by a refusal: what was sent with it is kept as a draft.
"""

from attar.errors import AttarError


class Conflict(AttarError):
    """The project has moved on since the client looked, or an id was used for something else."""

    status = 409
    exit_code = 2


class GuidelineChanged(Conflict):
    """The answer follows a guideline that is not in force, or that its author has not read."""


class Unknown(AttarError):
    """There is no such task, annotation, lease or user."""

    status = 404
    exit_code = 2


class Forbidden(AttarError):
    """The role of this user does not allow it, or it belongs to somebody else."""

    status = 403


class Unauthenticated(AttarError):
    """The name and the password, the session or the token are not valid."""

    status = 401


class Throttled(AttarError):
    """Too many failed attempts.

    Args:
        message: what the user reads.
        retry_after: seconds until the next attempt is looked at.
    """

    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(AttarError):
    """Others were writing to the database for too long; the same request may be sent again."""

    status = 503


class Moved(Busy):
    """The guideline changed between reading it and numbering what follows it."""
