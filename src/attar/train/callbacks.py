"""What happens around the steps of a run: progress, and a checkpoint when it is interrupted.

The methods are the events of transformers' `TrainerCallback`.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from attar.runtime import Bar, processes

logger = logging.getLogger(__name__)


class Progress(TrainerCallback):
    """A bar on a terminal, plain log lines elsewhere."""

    def __init__(self, tokens_per_step: int) -> None:
        self.tokens_per_step = tokens_per_step
        self.bar: Bar | None = None
        self.began, self.first = time.perf_counter(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.began, self.first = time.perf_counter(), state.global_step
        if state.is_world_process_zero:
            self.bar = Bar(
                total=state.max_steps, initial=state.global_step, unit="step", desc="train"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the loss, the tokens per second and the time that is left."""
        logs = kwargs.get("logs")
        if self.bar is None or not logs or "loss" not in logs:
            return
        per_step = (time.perf_counter() - self.began) / max(1, state.global_step - self.first)
        speed = self.tokens_per_step / per_step
        left = per_step * (state.max_steps - state.global_step)
        if self.bar.disable:
            self.bar.said = time.monotonic()
            logger.info(
                "step %d/%d  loss %.4f  %.0f tokens/s  %.0f s left",
                *(state.global_step, state.max_steps, logs["loss"], speed, left),
            )
        else:
            self.bar.set_postfix_str(f"loss {logs['loss']:.4f}, {speed:.0f} tokens/s")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, whatever ended the training."""
        if self.bar is not None:
            self.bar.close()


class Watch(TrainerCallback):
    """Calls `look` after each of some steps; training ends when it says so.

    Attributes:
        seconds: that the steps took so far, in all parts of a training: without what comes before
            and after them, checkpoints, and `look` itself.

    Args:
        look: step -> whether to stop; the model is in training mode.
        steps: after which.
    """

    def __init__(self, look: Callable[[int], bool], *, steps: Collection[int]) -> None:
        self.look, self.steps = look, frozenset(steps)
        self.seconds, self._since = 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Steps begin."""
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, after the steps that were named."""
        self.seconds += time.perf_counter() - self._since
        if state.global_step in self.steps and self.look(state.global_step):
            control.should_training_stop = True
        self._since = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Steps go on behind a checkpoint."""
        self._since = time.perf_counter()


class LastStep(TrainerCallback):
    """Ends a part of a training after a step, with a line in the log and a checkpoint.

    Args:
        step: after which.
        then: called before the checkpoint.
    """

    def __init__(self, step: int, *, then: Callable[[], None]) -> None:
        self.step, self.then = step, then

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop, after that step."""
        if state.global_step == self.step:
            self.then()
            control.should_training_stop = True
            control.should_log = True
            control.should_save = args.save_strategy == "steps"


class Interrupt(TrainerCallback):
    """Turns the first SIGINT or SIGTERM into a checkpoint after the step; a second acts at once."""

    def __init__(self) -> None:
        self.requested = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop and save if any process was interrupted."""
        if processes().num_processes > 1:  # all processes must stop after the same step
            flag = torch.tensor(float(self.requested), device=args.device)
            dist.all_reduce(flag)
            self.requested = bool(flag > 0)
        if self.requested:
            control.should_training_stop = True
            control.should_save = args.save_strategy == "steps"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals can only be caught in the main thread
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def request(number: int, frame: FrameType | None) -> None:
            self.requested = True
            signal.signal(number, before[signal.Signals(number)])
            logger.warning(
                "Interrupted: stopping after this step; interrupt again to stop at once."
            )

        try:
            for number in before:
                signal.signal(number, request)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
