"""The thread that owns the model: it takes in requests between forward passes, and sends out text.

Everything that touches the model or the batch happens in this thread. Others leave it messages.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from attar.decode.continuous import Batch
from attar.decode.texts import Delta, Request, Text
from attar.errors import AttarError
from attar.server.jobs import Job, News
from attar.server.meters import Meters

logger = logging.getLogger(__name__)

Work = Request | Job
Listener = Callable[[int, Delta | Exception], None]
"""Is called in the engine's thread with the number of a text and what was added to it."""


class BusyError(AttarError):
    """The queue is full.

    Args:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(AttarError):
    """The server takes no new work."""


@dataclass(eq=False)
class Ticket:
    """A request that was taken in.

    Attributes:
        listener: is told of its texts.
        texts: how many it has.
        left: how many of them are not finished; the engine's thread counts.
        passes: forward passes of the model that its texts had a part in.
        began: when it was taken in.
    """

    listener: Listener
    texts: int
    left: int = field(init=False)
    passes: int = 0
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.left = self.texts


class Engine:
    """Runs a batch, and jobs beside it.

    Args:
        batch: of the model.
        capacity: texts that are taken in at a time, those being written among them.
        rows: texts that are written at a time.
        meters: what is counted.
    """

    def __init__(self, batch: Batch, *, capacity: int, rows: int, meters: Meters) -> None:
        self._batch, self._rows, self._meters = batch, rows, meters
        self.capacity = capacity
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._texts: dict[Text, tuple[Ticket, int]] = {}
        self._jobs: list[_Queued] = []  # the first one runs
        self._live = 0  # texts that were taken in and are not finished
        self._open, self._ends_at = True, math.inf
        self._seconds = 1.0  # that a text took, lately
        self._thread = threading.Thread(target=self._run, name="attar-engine", daemon=True)
        meters.watch(live=lambda: self._live, rows=lambda: batch.rows_used)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the thread runs and takes new work."""
        return self._open and self._thread.is_alive()

    def submit(self, works: Sequence[Work], listener: Listener) -> Ticket:
        """Take in a request.

        Args:
            works: its texts and jobs, in the order of their numbers.
            listener: is told of them.

        Raises:
            BusyError: there is no room for it now.
            ClosedError: the server stops.
        """
        count = sum(_count(work) for work in works)
        ticket = Ticket(listener, count)
        with self._wake:
            if not self._open:
                raise ClosedError("the server is stopping and takes no new requests; try another")
            if self._live + count > self.capacity:
                seconds = math.ceil(self._seconds * max(1, self._live - self._rows) / self._rows)
                retry_after = min(max(seconds, 1), 60)
                raise BusyError(
                    f"the server is busy with {self._live} texts and takes {self.capacity} at a "
                    f"time; try again in about {retry_after} seconds",
                    retry_after=retry_after,
                )
            self._live += count
            self._inbox.append(lambda: self._begin(ticket, works))
            self._wake.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Cancel a request before the next forward pass, unless it is finished."""
        with self._wake:
            self._inbox.append(lambda: self._drop(ticket))
            self._wake.notify()

    def stop(self, *, grace: float) -> None:
        """Take in nothing more; what is not finished after so many seconds ends where it is."""
        with self._wake:
            self._open, self._ends_at = False, time.monotonic() + grace
            self._wake.notify()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, after `stop`; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------------- the engine's thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._inbox or self._busy or not self._open)
                messages, self._inbox = self._inbox, deque()
                if not (messages or self._busy or self._open):
                    return
            for message in messages:
                message()
            try:
                if time.monotonic() >= self._ends_at:
                    self._hand_back()
                self._step()
            except Exception as error:
                logger.exception("a pass of the batch failed; its texts are dropped")
                for ticket in {of for of, _ in self._texts.values()}:
                    self._fail(ticket, error)
                self._batch.reset()

    @property
    def _busy(self) -> bool:
        return self._batch.busy or bool(self._jobs)

    def _begin(self, ticket: Ticket, works: Sequence[Work]) -> None:
        number = 0
        try:
            for work in works:
                if isinstance(work, Request):
                    text = self._batch.add(work)
                    self._texts[text] = ticket, number
                else:
                    self._jobs.append(_Queued(work, ticket, number, work.count))
                number += _count(work)
        except Exception as error:
            logger.exception("a request could not begin")
            self._fail(ticket, error)

    def _step(self) -> None:
        if self._batch.busy:
            began = time.perf_counter()
            changed = self._batch.step()
            for texts in self._batch.passes:
                for ticket in {self._texts[text][0] for text in texts if text in self._texts}:
                    ticket.passes += 1
            for text in changed:
                if text in self._texts:  # else its client was lost on the way
                    self._tell(*self._texts[text], text.delta())
            self._texts = {t: of for t, of in self._texts.items() if t.finish_reason is None}
            self._meters.steps.observe(time.perf_counter() - began)
        now = time.monotonic()
        for queued in [q for q in self._jobs if (q.job.deadline or math.inf) <= now]:
            self._run_job(queued, partial(queued.job.end, late=True))
        if self._jobs:
            self._run_job(self._jobs[0], self._jobs[0].job.step)

    def _run_job(self, queued: "_Queued", part: Callable[[], News]) -> None:
        """A part of a job; if it fails, nothing else does."""
        try:
            news = part()
        except Exception as error:
            logger.exception("a job failed, and is dropped")
            self._fail(queued.ticket, error)
            return
        queued.ticket.passes += queued.job.passes - queued.passes
        queued.passes = queued.job.passes
        for number, delta in news:
            self._tell(queued.ticket, queued.first + number, delta)
            queued.left -= delta.finish_reason is not None
        if not queued.left and queued in self._jobs:
            self._jobs.remove(queued)

    def _tell(self, ticket: Ticket, number: int, news: Delta | Exception) -> None:
        if isinstance(news, Delta):
            self._meters.count(news)
            if news.finish_reason is not None and ticket.left:
                # first, so that there is room when the client comes back
                self._free(ticket, 1)
                self._seconds += 0.1 * (time.monotonic() - ticket.began - self._seconds)
        try:
            ticket.listener(number, news)
        except RuntimeError:  # its event loop is gone
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        """Cancel what a request has not finished."""
        if not ticket.left:
            return
        self._meters.cancelled.inc()
        self._free(ticket, ticket.left)
        for text in [text for text, (of, _) in self._texts.items() if of is ticket]:
            self._batch.cancel(text)
            del self._texts[text]
        for queued in [one for one in self._jobs if one.ticket is ticket]:
            self._jobs.remove(queued)
            try:
                queued.job.cancel()
            except Exception:
                logger.exception("a job that was cancelled failed")

    def _free(self, ticket: Ticket, count: int) -> None:
        ticket.left -= count
        with self._wake:
            self._live -= count

    def _hand_back(self) -> None:
        """End everything where it is."""
        for text in self._batch.clear():
            if text in self._texts:
                self._tell(*self._texts.pop(text), text.delta())
        for queued in list(self._jobs):
            self._run_job(queued, partial(queued.job.end, late=False))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Tell a client that its request failed; the engine goes on with the next."""
        self._tell(ticket, 0, error)
        self._drop(ticket)


@dataclass(eq=False)
class _Queued:
    """A job that waits or runs.

    Attributes:
        job: it.
        ticket: the request that it belongs to.
        first: the number of its first text there.
        left: its texts that are not finished.
        passes: of it, that its request was told of.
    """

    job: Job
    ticket: Ticket
    first: int
    left: int
    passes: int = 0


def _count(work: Work) -> int:
    return 1 if isinstance(work, Request) else work.count
