"""Work that is not a row of the batch, and runs beside it step by step."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from attar.decode.texts import Delta

News = Sequence[tuple[int, Delta]]
"""What was added to which text of a job."""


@runtime_checkable
class Job(Protocol):
    """One or several texts that are written in another way than by sampling token by token."""

    @property
    def count(self) -> int:
        """How many texts it writes."""
        ...

    @property
    def deadline(self) -> float | None:
        """When it must end, on the clock of `time.monotonic`."""
        ...

    @property
    def passes(self) -> int:
        """Forward passes of the model so far."""
        ...

    def step(self) -> News:
        """Go on by about one forward pass, so that the batch need not wait. The job is done when
        every text has had a delta with a finish reason."""
        ...

    def end(self, *, late: bool) -> News:
        """End all texts where they are: the deadline has come, or the server stops."""
        ...

    def cancel(self) -> None:
        """Let go of what it holds, without another pass: nobody waits for it any more."""
        ...
