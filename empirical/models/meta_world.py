"""A world of many ranks in one process, without data: every function of torch and transformers that this replaces.

torch's "fake" process group runs collectives that move nothing, and the meta device holds tensors without bytes. FSDP2
refuses the meta device, and a few functions read values that meta tensors lack. They are replaced here and nowhere
else. Each must have the signature for which its replacement was written: in another version of torch or transformers a
function that is gone or takes other arguments is refused by name.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from analytic.errors import PlannerError, UsageError

_FSDP = "torch.distributed.fsdp._fully_shard"
_MISSING = object()


class UnsupportedVersionError(PlannerError):
    """A version of torch or transformers in which a replaced function is not the one that was expected."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """One function that is replaced.

    Attributes:
        path: `module:name` or `module:Class.name`.
        signature: that it must have, without annotations. Empty for functions of C++, which have none.
        made: the replacement, made from the function itself.
        is_newer: torch 2.11 does not have it, nor any need of it.
    """

    path: str
    signature: str
    made: Callable[[Any], Any]
    is_newer: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the function inside the context.

        Raises:
            UnsupportedVersionError: a function that is missing, or has another signature.
        """
        owner, name = _owner(self.path)
        if self.is_newer and getattr(owner, name, None) is None:
            yield
            return
        plain = checked(self.path, self.signature)
        raw, made = vars(owner).get(name, _MISSING), functools.update_wrapper(self.made(plain), plain)
        setattr(owner, name, staticmethod(made) if isinstance(raw, staticmethod) else made)
        try:
            yield
        finally:
            if raw is _MISSING:  # it is inherited
                delattr(owner, name)
            else:
                setattr(owner, name, raw)


def checked(path: str, signature: str) -> Any:
    """The function of that path, if it has the signature for which its caller was written.

    Raises:
        UnsupportedVersionError: a function that is missing, or has another signature.
    """
    owner, name = _owner(path)
    function = getattr(owner, name, None)
    if function is None or (signature and signature != _signature(function)):
        found = "none" if function is None else _signature(function)
        raise UnsupportedVersionError(
            f"{path.replace(':', '.')}: expected the signature {signature or 'of a function'}, found "
            f"{found} in torch {version('torch')} and transformers {version('transformers')}"
        )
    return function


def _owner(path: str) -> tuple[Any, str]:
    module, _, names = path.partition(":")
    *classes, name = names.split(".")
    try:
        return functools.reduce(getattr, classes, importlib.import_module(module)), name
    except (ImportError, AttributeError):
        return None, name


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


@contextmanager
def replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    """All of them inside the context."""
    with ExitStack() as stack:
        for replacement in replacements:
            stack.enter_context(replacement.applied())
        yield


def start_world(num_ranks: int, rank: int) -> None:
    """Make this process one rank of a simulated world. torch caches groups: one world a process."""
    creator = dist.Backend._plugins["FAKE"].creator_fn
    dist.Backend.register_backend("fakemeta", creator, extended_api=True, devices=["cpu", "meta"])
    dist.init_process_group("cpu:fakemeta,meta:fakemeta", store=FakeStore(), rank=rank, world_size=num_ranks)


def on_meta() -> Any:
    """Let FSDP2, tensor and expert parallelism of transformers run on the meta device, inside the context."""
    return replaced(_ON_META)


def watching_resizes(on_resize: Callable[[torch.UntypedStorage], None]) -> Any:
    """Call `on_resize` after each resize of a storage, by which FSDP2 frees and takes memory."""

    def made(plain: Any) -> Any:
        def resize_(storage: torch.UntypedStorage, size: int) -> Any:
            out = plain(storage, size)
            on_resize(storage)
            return out

        return resize_

    return replaced([Replacement("torch:UntypedStorage.resize_", "", made)])


def watching_groups(on_enter: Callable[[str], object], on_exit: Callable[[], object]) -> Any:
    """Call `on_enter` with the modules of an FSDP2 group while it gathers or reduces: `model.layers.3`, or `root`."""

    def made(plain: Any) -> Any:
        def method(group: Any, *args: Any, **kwargs: Any) -> Any:
            on_enter(group._module_fqn or "root")
            try:
                return plain(group, *args, **kwargs)
            finally:
                on_exit()

        return method

    group = f"{_FSDP}._fsdp_param_group:FSDPParamGroup"
    gather = Replacement(f"{group}.unshard", "(self, async_op=False)", made)
    reduce = Replacement(f"{group}.post_backward", "(self, *unused)", made)
    return replaced([gather, reduce])


def watching_waits(on_return: Callable[[], object]) -> Any:
    """Call `on_return` when a functional collective has been waited for."""

    def made(plain: Any) -> Any:
        def wait_tensor(tensor: Tensor) -> Tensor:
            out: Tensor = plain(tensor)
            on_return()
            return out

        return wait_tensor

    return replaced([Replacement("torch.distributed._functional_collectives:wait_tensor", "(tensor)", made)])


def pipelines_on_meta() -> Any:
    """Let torch's pipeline schedules run on the meta device, inside the context.

    They save the state of random numbers, and ask the other ranks for shapes unless the backend is called "fake".
    """
    return replaced(_PIPELINES_ON_META)


def watching_stages(methods: Mapping[str, str], on_call: Callable[[str, Any, dict[str, Any], Any], None]) -> Any:
    """Call `on_call` with name, stage, arguments and result after each call of these methods of a stage."""

    def made(name: str) -> Callable[[Any], Any]:
        def wrapped(plain: Any) -> Any:
            signature = inspect.signature(plain)

            def method(*args: Any, **kwargs: Any) -> Any:
                out = plain(*args, **kwargs)
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                on_call(name, args[0], bound.arguments, out)
                return out

            return method

        return wrapped

    stage = "torch.distributed.pipelining.stage:_PipelineStageBase"
    return replaced([Replacement(f"{stage}.{name}", signature, made(name)) for name, signature in methods.items()])


class _Event:
    def record(self, *_: Any) -> _Event:
        return self

    def wait(self, *_: Any) -> None: ...

    def synchronize(self) -> None: ...


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record_event(self, *_: Any) -> _Event:
        return _Event()

    def wait_stream(self, *_: Any) -> None: ...

    def wait_event(self, *_: Any) -> None: ...


class _MetaDevice:
    """What FSDP2 asks of a device's module. Streams and events order nothing: all is in program order."""

    Event, Stream = _Event, _Stream
    device_count = staticmethod(lambda: 1)
    is_initialized = staticmethod(lambda: True)
    current_stream = staticmethod(lambda: _Stream())
    stream = staticmethod(lambda _: nullcontext())


def _device_handle(plain: Any) -> Any:
    return lambda device_type="cuda": _MetaDevice if device_type == "meta" else plain(device_type)


def _device_from_mesh(plain: Any) -> Any:
    return lambda mesh: torch.device("meta") if mesh.device_type == "meta" else plain(mesh)


def _fake_backend(_: Any) -> Any:
    return lambda group=None: "fake"


def _no_random_numbers(plain: Any) -> Any:
    def fork_rng(*args: Any, device_type: str | None = None, **kwargs: Any) -> Any:
        return nullcontext() if device_type == "meta" else plain(*args, device_type=device_type, **kwargs)

    return fork_rng


def _only_off_meta(plain: Any) -> Any:
    """FSDP2 marks a gradient as used by a stream, which on meta there is none of."""
    return lambda buffer, stream: None if buffer.is_meta else plain(buffer, stream)


def _accepting_meta(plain: Any) -> Any:
    def validate(group: Any) -> None:
        if group.device.type != "meta":
            plain(group)

    return validate


def _taking_over_meta(plain: Any) -> Any:
    """FSDP2 takes over a parameter that was replaced since it sharded it, unless it is on meta.

    So transformers ties a head, which is then padded a second time where a rank's shard is shorter than the first.
    """

    def reset_sharded_param(parameter: Any) -> None:
        plain(parameter)
        sharded = parameter.sharded_param._local_tensor
        held = parameter._sharded_param_data
        if not sharded.is_meta or sharded.untyped_storage()._cdata == held.untyped_storage()._cdata:
            return
        if sharded.size() != parameter.padded_sharded_param_size:
            rows, sharded = sharded.size(0), sharded.new_zeros(parameter.padded_sharded_param_size)
            parameter.sharded_param._local_tensor = sharded.narrow(0, 0, rows)
        parameter._sharded_param_data = sharded.view(-1)

    return reset_sharded_param


def _without_shape_carrier(_: Any) -> Any:
    """transformers makes an empty meta tensor to read strides off it: on meta it would pass for a real one."""

    def from_local(local: Tensor, mesh: Any, size: int) -> DTensor:
        from torch._prims_common import make_contiguous_strides_for

        shape = torch.Size((*local.shape[:-1], size))
        stride = make_contiguous_strides_for(shape)
        return DTensor.from_local(local, mesh, [Shard(-1)], run_check=False, shape=shape, stride=stride)

    return from_local


def _with_balanced_routing(plain: Any) -> Any:
    """Token dispatch reads on the host how many rows each rank gets. On meta every rank gets the same."""

    def dispatch(experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Any:
        if not hidden_states.is_meta:
            return plain(experts, hidden_states, top_k_index, top_k_weights)
        ranks, tp = experts.ep_mesh.size(), experts.tp_mesh.size()
        rows = top_k_index.numel()
        if rows % (tp * ranks) or top_k_index.shape[0] % tp:
            raise UsageError(f"{rows} routed rows: expected a multiple of tp x ep = {tp * ranks} for balanced routing")
        balanced = [[rows // (tp * ranks)] * ranks] * 2
        tolist = Replacement("torch:Tensor.tolist", "", lambda _: lambda _: balanced)
        with tolist.applied():
            return plain(experts, hidden_states, top_k_index, top_k_weights)

    return dispatch


_MODULES_WITH_HANDLE = (
    "torch.distributed.device_mesh",
    *(f"{_FSDP}.{name}" for name in ("_fsdp_collectives", "_fsdp_init", "_fsdp_state", "_fsdp_param_group")),
)
_ON_META = (
    *(Replacement(f"{m}:_get_device_handle", "(device_type='cuda')", _device_handle) for m in _MODULES_WITH_HANDLE),
    Replacement(f"{_FSDP}._fully_shard:_get_device_from_mesh", "(mesh)", _device_from_mesh),
    Replacement(f"{_FSDP}._fsdp_collectives:record_grad_output_stream", "(buffer, stream)", _only_off_meta, True),
    Replacement(f"{_FSDP}._fsdp_param_group:FSDPParamGroup._validate_no_meta_params", "(self)", _accepting_meta),
    Replacement(f"{_FSDP}._fsdp_param:FSDPParam.reset_sharded_param", "(self)", _taking_over_meta),
    Replacement(
        "transformers.distributed.tensor_parallel:TensorParallelLayer._from_local_last_dim_shard",
        "(local, mesh, size)",
        _without_shape_carrier,
    ),
    Replacement(
        "transformers.distributed.expert_parallel:AllToAllEP._dispatch_tokens",
        "(self, hidden_states, top_k_index, top_k_weights)",
        _with_balanced_routing,
    ),
)
_PIPELINES_ON_META = (
    Replacement("torch.distributed:get_backend", "(group=None)", _fake_backend),
    Replacement(
        "torch.random:fork_rng",
        "(devices=None, enabled=True, _caller='fork_rng', _devices_kw='devices', device_type=None)",
        _no_random_numbers,
    ),
)
