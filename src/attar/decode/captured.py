"""Forward passes that are captured once and replayed.

A pass over a few tokens launches a thousand kernels, and launching them takes longer than running
them on the GPU. A CUDA graph launches them all at once, on the same memory and in the same shapes
as when it was captured. So widths and rows are rounded up to powers of two.

On a CPU torch.compile takes the place of graphs. It fuses the small operations between the matrix
products, a third of a pass of a small model, and needs about a minute for each shape.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.cache import takes_positions
from attar.decode.static import SLIDING, Passes

MOST = 16
"""Tokens of a row; wider passes are not captured, nor are those over prompts."""

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]
"""Rows, tokens of each, and for how many of these there are logits."""


@dataclass(frozen=True)
class Graph:
    """A captured pass.

    Attributes:
        read: its input, `(2, B, W)`, to be overwritten.
        replay: runs it; returns the logits, `(B, last, V)`, which the next replay may overwrite.
    """

    read: Tensor
    replay: Callable[[], Tensor]


class Captured(Passes):
    """Passes of a few shapes, each captured at its first use."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self._graphs: dict[Shape, Graph] = {}
        self._pool: Any = None  # memory that all graphs share, as they never run at the same time
        self._fails = False

    def start(self, rows: int) -> None:
        """Begin a batch; graphs are kept while cache and weights stay where they are."""
        if not self.fits(rows):
            self._forget()
        super().start(rows)

    def reserve(self, tokens: int) -> None:
        """Make room; graphs of the smaller cache are dropped."""
        size = self.size
        super().reserve(tokens)
        if self.size > size:
            self._forget()

    def __call__(self, read: Tensor, *, last: int, rows: Sequence[int] | None = None) -> Tensor:
        """Replay the pass of the next larger shape; a pass over chosen rows is not captured."""
        _, count, width = read.shape
        if rows is not None or self._fails or width > MOST or bool((read[1] == 0).any()):
            return super().__call__(read, last=last, rows=rows)
        self.reserve(int(read[1].max()) + 1)
        high, wide = min(_rounded(count), self.rows), _rounded(width)
        shape = high, wide, 1 if last == 1 else wide
        padded = read.new_zeros(2, high, wide)
        padded[1] = -1
        padded[:, :count, wide - width :] = read
        graph = self._graphs.get(shape) or self._captured(shape, padded)
        if graph is None:
            return super().__call__(read, last=last)
        graph.read.copy_(padded)
        return graph.replay()[:count, -last:].clone()

    def _forget(self) -> None:
        self._graphs.clear()
        gpu = self.model.device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if gpu else None

    def _captured(self, shape: Shape, read: Tensor) -> Graph | None:
        """The captured pass of a shape; None where it cannot be captured, which is logged once."""
        read = read.to(self.model.device)

        def run() -> Tensor:
            return self.forward(read, seen=self.size, last=shape[2])

        try:
            expected = run()
            replay = capture(run, device=self.model.device, pool=self._pool)
            # A pass writes the same tokens into the same slots, so it can be run again.
            if not torch.allclose(replay(), expected, rtol=1e-2, atol=1e-2, equal_nan=True):
                raise RuntimeError("a replayed pass gave other logits than the model")
        except RuntimeError as error:  # the model synchronises with the GPU, or memory is short
            self._fails = True
            self._forget()
            _tell(self.model, " ".join(str(error).split())[:200])
            return None
        self._graphs[shape] = Graph(read, replay)
        return self._graphs[shape]


def capture(run: Callable[[], Tensor], *, device: torch.device, pool: Any) -> Callable[[], Tensor]:
    """The same function as a CUDA graph, which always returns the same tensor and takes memory from
    the pool; on a CPU, compiled."""
    if device.type != "cuda":
        return torch.compile(run, dynamic=False)
    with torch.cuda.device(device):
        side: Any = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up at first use, before the graph
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = run()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


def passes_of(model: PreTrainedModel, *, compile: bool | None) -> Passes | None:
    """Captured passes of a model; None where it has none, and the reason is logged.

    Args:
        model: on its device.
        compile: False: none; None: on a GPU only.
    """
    return Captured(model) if can_capture(model, compile=compile) else None


def can_capture(model: PreTrainedModel, *, compile: bool | None) -> bool:
    """Whether the passes of a model should and can be captured; why they cannot is logged."""
    if compile is False or (compile is None and model.device.type != "cuda"):
        return False
    if (reason := obstacle(model)) is not None:
        _tell(model, reason)
    return reason is None


def obstacle(model: PreTrainedModel) -> str | None:
    """Why the passes of a model cannot have fixed shapes; None where they can."""
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if not takes_positions(model):
        return "it takes no position_ids"
    if not model._can_compile_fullgraph:
        return "transformers cannot compile models of its class as one graph"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attn_implementation is {config._attn_implementation}; set it to sdpa"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", SLIDING}
    if kinds:
        return f"it has layers of the type {min(kinds)}"
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    for one in [rope] if "rope_type" in rope else rope.values():
        if isinstance(one, dict) and one.get("rope_type") in ("dynamic", "longrope"):
            return "its rotary embeddings depend on the length of the text"
    if len({weight.device for weight in model.parameters()}) > 1:
        return "its weights are on several devices"
    return None


def _rounded(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _tell(model: PreTrainedModel, reason: str) -> None:
    name = model.name_or_path or type(model).__name__
    logger.info("%s is decoded without captured passes: %s", name, reason)
