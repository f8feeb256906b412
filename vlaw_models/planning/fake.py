"""A model run without memory or time: the real classes with fake weights, which have shapes and types, and no numbers.

What is counted is what torch would do: bytes of storages that are alive, bytes that autograd saves, operations. Fake
weights are of the CPU, so that no GPU is needed, and computed with as on CUDA: in bfloat16 where the model says so, but
norms in float32, which decides what is saved. Inputs are real and small; what depends on their values can be asked.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from vlaw_models.device import AS_ON_A_GPU, seeded
from vlaw_models.errors import VlawError

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""What autocast computes in float32 on CUDA, of what the models here are built of; on a CPU it leaves them in
bfloat16."""

TO_ANOTHER_TYPE = torch.ops.aten._to_copy.default  # noqa: SLF001
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
BY_MASK = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


@dataclass(frozen=True)
class Run:
    """What a run of a model takes."""

    saved: int
    """Bytes that autograd saves for the backward pass, parameters not counted."""
    peak: int
    """Most bytes that are alive at once, beyond parameters, their gradients and the inputs."""
    copies: int
    """Of `peak`, bytes of bfloat16 copies of parameters: they are as many for any number of samples. Where activations
    are computed again, copies come and go with their layers."""
    flop: int
    """Operations, those of the backward pass and of recomputation included."""


@contextmanager
def faking(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Models that are made inside the block, of this type, have fake weights, which take no memory."""
    before = torch.get_default_dtype(), nn.Module._apply, nn.init._no_grad_trunc_normal_  # noqa: SLF001
    torch.set_default_dtype(dtype)
    nn.Module._apply = _replaced  # noqa: SLF001
    # It draws until all numbers are within limits: there are none.
    nn.init._no_grad_trunc_normal_ = lambda weight, *_, **__: weight
    try:
        with seeded(0), FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.set_default_dtype(before[0])
        nn.Module._apply, nn.init._no_grad_trunc_normal_ = before[1:]  # noqa: SLF001


def _replaced(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], *_: Any) -> nn.Module:
    """What `Module.to` and the like do, with new parameters: torch cannot exchange what is in fake ones."""
    known: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            if id(value) not in known:  # one that two parts share stays one
                known[id(value)] = nn.Parameter(change(value.detach()), requires_grad=value.requires_grad)
            setattr(part, name, known[id(value)])
        for name, value in part.named_buffers(recurse=False):
            setattr(part, name, change(value))
    return module


def take_step(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Run:
    """Forward and backward of `loss`, where there are gradients already: micro-batches add to them.

    Raises VlawError, as `call`, for a model whose code asks for numbers that fake weights do not have.
    """
    for value in model.parameters():
        value.grad = torch.zeros_like(value) if value.requires_grad else None
    known = _keys(model)
    saved: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        if _key(value) not in known:
            saved[_key(value)] = value.untyped_storage().nbytes()
        return value

    with _asking_no_numbers(model), as_on_cuda(model), Counting(known) as counted:
        with saved_tensors_hooks(keep, lambda value: value):
            result = loss()
        total = sum(saved.values())
        result.backward()
    return Run(total, counted.peak, counted.copies, counted.flop)


def call(model: nn.Module, function: Callable[[], Any]) -> Run:
    """A call of the model without gradients."""
    known = _keys(model)
    with torch.no_grad(), _asking_no_numbers(model), as_on_cuda(model), Counting(known) as counted:
        function()
    return Run(0, counted.peak, counted.copies, counted.flop)


class Counting(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that are made inside the block and are still there.

    Not with torch's FlopCounterMode: what that hangs on modules keeps activations alive that are computed again.
    """

    def __init__(self, parameters: set[int]) -> None:
        """`parameters`: keys of their storages, to tell copies of them."""
        super().__init__()
        self.now = self.peak = self.copies = self.flop = self._copied = 0
        self._parameters, self._alive = parameters, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BY_MASK:
            args = (args[0], _places(args[1]), *args[2:])
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func is not torch.ops.prim.device.default:
            with self:  # there operations come whole that are made of others
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        given = {_key(value) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)}
        result = func(*args, **kwargs)
        self.flop += _flop(func, args, kwargs, result)
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and _key(value) not in given | self._alive:
                self._count(value.untyped_storage(), copies=func is TO_ANOTHER_TYPE and given <= self._parameters)
        return result

    def _count(self, storage: torch.UntypedStorage, *, copies: bool) -> None:
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001
        self._alive.add(key)
        self.now += size
        self._copied += size * copies
        if self.now > self.peak:
            self.peak, self.copies = self.now, self._copied
        weakref.finalize(storage, self._gone, key, size, copies)

    def _gone(self, key: int, size: int, copies: bool) -> None:  # noqa: FBT001
        self._alive.discard(key)
        self.now -= size
        self._copied -= size * copies


def _places(indices: Any) -> list[Any]:
    """Indices with the places that a real mask names instead of the mask: how many there are is known then."""
    found: list[Any] = []
    for one in indices:
        masks = isinstance(one, torch.Tensor) and one.dtype == torch.bool and not isinstance(one, FakeTensor)
        found += one.nonzero().unbind(1) if masks else [one]
    return found


@contextmanager
def _asking_no_numbers(model: nn.Module) -> Iterator[None]:
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise VlawError(
            f"the class {type(model).__name__} cannot be planned: what it computes depends on values that only weights "
            f"give ({error})",
            where="vlaw plan",
            remedy="Let its code decide by sizes and inputs, or plan a recipe without it.",
        ) from error


@contextmanager
def as_on_cuda(model: nn.Module) -> Iterator[None]:
    """bfloat16 where a GPU would have it. Hooks of modules hold where activations are computed again, too."""
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    handles = [norm.register_forward_pre_hook(lambda _norm, given: tree_map(_float, given)) for norm in norms]
    token = AS_ON_A_GPU.set(True)
    try:
        yield
    finally:
        AS_ON_A_GPU.reset(token)
        for handle in handles:
            handle.remove()


def _float(value: Any) -> Any:
    """In float32, where autocast is on."""
    short = isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 and torch.is_autocast_enabled("cpu")
    return value.float() if short else value


def _flop(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Operations of a call, by torch's formulas; it has none for the attention of a CPU."""
    kind = func.overloadpacket
    if kind is ATTENTION:
        return sdpa_flop_count(*(value.shape for value in args[:3]))
    if kind is ATTENTION_BACKWARD:
        return sdpa_backward_flop_count(*(value.shape for value in args[:4]))
    return flop_registry[kind](*args, **kwargs, out_val=result) if kind in flop_registry else 0


def _keys(model: nn.Module) -> set[int]:
    return {_key(value) for value in [*model.parameters(), *model.buffers()]}


def _key(value: torch.Tensor) -> int:
    return value.untyped_storage()._cdata  # noqa: SLF001
