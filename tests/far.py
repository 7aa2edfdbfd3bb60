"""A device that only seems to be one: its tensors lie in memory, but say that they are on `meta`,
and refuse to meet those of the processor, as a GPU's do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
#: they take tensors of the processor, too: values that are copied, and places
_MIXED = ("copy_", "_to_copy", "index", "index_put_", "_index_put_impl_")


class Far(Tensor):
    """A tensor on the device; what it holds is `near`."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "Far":
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, near.shape, strides=near.stride(), dtype=near.dtype, device=DEVICE
        )
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        """Do it in memory, after a look at where things lie."""
        return _computed(func, args, dict(kwargs or {}))


class _Mode(TorchDispatchMode):
    """For functions that make tensors."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Made(TorchFunctionMode):
    """For what a dispatch mode does not see: `torch.tensor` moves what it made, `tolist`, and lists
    as places."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = given.pop("device", None) or torch.get_default_device()
            return func(*args, **given, device="cpu").to(device)
        if func is Tensor.tolist and isinstance(args[0], Far):
            return args[0].near.tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            near = [torch.tensor(p, device="cpu") if isinstance(p, list) else p for p in places]
            args = (args[0], tuple(near), *args[2:])
        return func(*args, **given)


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    away = [isinstance(one, Far) for one in tensors]
    strangers = [one for one, is_far in zip(tensors, away, strict=True) if not is_far and one.dim()]
    if any(away) and strangers and name not in _MIXED:
        shapes = [tuple(one.shape) for one in strangers]
        raise AssertionError(f"{name} is given tensors of the processor too, of shapes {shapes}")
    far = any(away)
    if (device := kwargs.get("device")) is not None:
        far = torch.device(device) == DEVICE
        kwargs["device"] = torch.device("cpu")
    near = tree_map(lambda one: one.near if isinstance(one, Far) else one, (args, kwargs))
    result = func(*near[0], **near[1])
    if name.endswith("_") and not name.startswith("_"):
        return args[0]  # written in place
    if not far:
        return result
    return tree_map(lambda one: Far(one) if isinstance(one, Tensor) else one, result)


@contextmanager
def device() -> Iterator[None]:
    """While it lasts, what is made on `meta` has contents."""
    with torch.no_grad(), _Mode(), _Made():
        yield


def moved(model: Any) -> Any:
    """A model on the device."""
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = nn.Parameter(Far(value.data), requires_grad=False)
        for name, value in list(module._buffers.items()):
            if value is not None:
                module._buffers[name] = Far(value)
    return model
