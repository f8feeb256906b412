"""A device that is not the CPU, on a machine that has no other: tensors that say "meta" and are computed on the CPU.

Inside `other_device()` whatever is moved to the device "meta" keeps its values, and an operation that is given tensors
of both devices raises, as it does on a GPU. So a model or a batch that stays on the CPU is found without a GPU. Speed,
bfloat16 and a GPU's own kernels are not tested by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
COPIES = {torch.ops.aten._to_copy, torch.ops.aten.copy_, torch.ops.aten.to}  # noqa: SLF001 (the operation's name)
INDEXES = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}
"""A GPU takes indices from the CPU."""


class There(torch.Tensor):
    """A tensor on the other device."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        with torch.inference_mode(False):  # else no view of it could be taken
            return torch.Tensor._make_wrapper_subclass(  # noqa: SLF001 (torch has no other way to make one)
                cls,
                here.size(),
                strides=here.stride(),
                storage_offset=here.storage_offset(),
                dtype=here.dtype,
                device=NAME,
                requires_grad=False,
            )

    def __init__(self, here: torch.Tensor):
        assert not here.is_meta, "its values are lost"
        self.here = here

    def __repr__(self) -> str:
        return f"There({self.here!r})"

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    kwargs = dict(kwargs)
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = any(isinstance(value, There) for value in tensors)
    lost = [value for value in tensors if value.is_meta and not isinstance(value, There)]
    if lost:
        raise RuntimeError(f"{func}: a tensor without values: {[tuple(value.shape) for value in lost]}")
    asked = kwargs.get("device") or next((value for value in args if isinstance(value, torch.device)), None)
    if func.overloadpacket not in COPIES and there:
        checked = [args[0]] if func in INDEXES else tensors
        mixed = [value for value in checked if not isinstance(value, There) and value.dim() > 0]
        if mixed:
            raise RuntimeError(f"{func}: tensors on the CPU and on the other device: {[tuple(m.shape) for m in mixed]}")
    if asked is not None:
        there = torch.device(asked).type == NAME
        kwargs |= {"device": torch.device("cpu")} if "device" in kwargs else {}
        args = tuple(torch.device("cpu") if isinstance(value, torch.device) else value for value in args)
    elif func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], There)
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not there:
        return found
    by_storage = {id(value.here): value for value in tensors if isinstance(value, There)}
    # An operation in place gives back the very tensor that it was given.
    return tree_map(
        lambda value: (
            (by_storage.get(id(value)) if id(value) in by_storage else There(value))
            if isinstance(value, torch.Tensor)
            else value
        ),
        found,
    )


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _index(place: Any) -> Any:
    if isinstance(place, list):
        return torch.tensor(place)
    return int(place) if isinstance(place, There) and place.dim() == 0 and place.dtype != torch.bool else place


class _Moves(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class _Makes(TorchFunctionMode):
    """What torch does not hand to a dispatch mode, or refuses to do with a tensor that says "meta"."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            values = tree_map(_here, args[0]), *args[1:]
            return func(*values, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            where = args[1] if isinstance(args[1], tuple) else (args[1],)
            return func(args[0], tuple(map(_index, where)), *args[2:])
        if func is torch.Tensor.new_tensor:
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(
                kwargs.get("device", args[0].device)
            )
        if func in (torch.repeat_interleave, torch.Tensor.repeat_interleave) and isinstance(args[-1], There):
            kwargs["output_size"] = int(args[-1].sum())
        return func(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[torch.device]:
    with _Makes(), _Moves():
        yield torch.device(NAME)
