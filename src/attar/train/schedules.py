"""Learning rates that transformers does not have."""

import math
from typing import Any, Protocol, runtime_checkable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


@runtime_checkable
class ObservesLoss(Protocol):
    """A schedule that depends on the loss: the trainer tells it that of every step."""

    def observe(self, loss: float) -> None:
        """A part of the loss of the present step, of all processes together."""
        ...


class LogCosinePlateau(LRScheduler):
    """WaLLoC's: a warm-up along a cosine of the logarithm, then less where the loss stops falling.

    The rate changes every `window` steps. In warm-up,

        log lr(t) = log lo + (log hi - log lo) (1 - cos(pi t / T)) / 2

    and afterwards `ReduceLROnPlateau` reads the mean of log10(loss) over each window.

    Args:
        optimizer: with the peak rate hi.
        warmup_steps: T.
        window: steps between two changes.
        lowest: lo.
        factor: what the rate is multiplied by on a plateau.
        patience: windows without a lower loss before that.
        threshold: by how much log10(loss) must fall to count.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup_steps: int,
        window: int = 128,
        lowest: float = 1e-7,
        factor: float = 0.98,
        patience: int = 64,
        threshold: float = 1e-5,
    ) -> None:
        self._warmup, self._window, self._lowest = warmup_steps, window, lowest
        self._now, self._sum, self._seen = 0.0, 0.0, 0
        self._plateau = ReduceLROnPlateau(
            optimizer,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode="abs",  # logarithms of losses are negative
        )
        super().__init__(optimizer)

    def observe(self, loss: float) -> None:
        """A part of the loss of the present step, of all processes together."""
        self._now += loss

    def get_lr(self) -> list[float | Any]:
        """The rates of the next step."""
        step = self.last_epoch
        if self._now > 0:
            self._sum += math.log10(self._now)
            self._seen += 1
            self._now = 0.0
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if step % self._window:
            return rates
        mean = self._sum / self._seen if self._seen else None
        self._sum, self._seen = 0.0, 0
        if step - self._window < self._warmup:  # the change at or after the end reaches the peak
            done = min(step / self._warmup, 1.0) if self._warmup else 1.0
            share = (1 - math.cos(math.pi * done)) / 2
            return [self._lowest ** (1 - share) * peak**share for peak in self.base_lrs]
        if mean is not None:
            self._plateau.step(mean)
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        state = {k: v for k, v in super().state_dict().items() if k != "_plateau"}
        return state | {"plateau": self._plateau.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        state = dict(state_dict)
        self._plateau.load_state_dict(state.pop("plateau"))
        super().load_state_dict(state)
