"""A pretended CUDA device: tensors on "cuda:0" that compute on the CPU and fail as CUDA's do.

Mixed devices raise, ``.numpy()`` of a "cuda" tensor raises, the "cuda" generator is separate, and a
CUDA graph records operations and replays them on the same memory: reading a value on the host, or
copying from or to it, raises while a graph is captured. It finds such errors without a GPU; it has
no kernels, times or streams of CUDA. :mod:`guard` is loaded before torch.
"""

# ruff: noqa: ARG001, ARG002, ARG005, N801, N818 - it has the names and signatures of torch

import contextlib
import copy
import threading
import types

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten


class Mixed(RuntimeError):
    pass


class CaptureFailed(RuntimeError):
    pass


class Pretend(torch.Tensor):
    @staticmethod
    def __new__(cls, elem, requires_grad=False):
        t = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=CUDA,
            requires_grad=requires_grad,
        )
        t.elem = elem
        return t

    def __init__(self, *a, **k):
        pass

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types_, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def data_ptr(self):
        return self.elem.data_ptr()

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value):
        self.elem = value.elem  # of the same shape

    def numpy(self, *a, **k):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *a, **k):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __matmul__(self, other):
        # the C++ composite squeezes in place, which a wrapper can't follow
        if self.dim() == 1 and other.dim() > 1:
            return torch.matmul(self.unsqueeze(0), other).squeeze(-2)
        return torch.matmul(self, other)

    def tolist(self):
        _sync("tolist", "a look")
        return self.elem.tolist()

    def __repr__(self, *a, **k):
        return f"Pretend({self.elem!r})"

    def __reduce_ex__(self, protocol):
        kept = self.elem.detach()
        if isinstance(self, nn.Parameter):
            kept = nn.Parameter(kept, self.requires_grad)
        return kept.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user support deepcopy")
        new = Pretend(self.elem.detach().clone(), False)
        new = (
            nn.Parameter(new, self.requires_grad)
            if isinstance(self, nn.Parameter)
            else new.requires_grad_(self.requires_grad)
        )
        for k, v in self.__dict__.items():
            if k not in ("elem", "_is_param"):
                setattr(new, k, copy.deepcopy(v, memo))
        memo[id(self)] = new
        return new


STATE = types.SimpleNamespace(
    generator=torch.Generator("cpu").manual_seed(0),
    capture=None,
    sync_mode=0,
)


def _unwrap(x):
    return x.elem if isinstance(x, Pretend) else x


def _tensors(value, found=None):
    """Every tensor in nested arguments (the trees of torch.utils are slow here)."""
    found = [] if found is None else found
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for one in value:
            _tensors(one, found)
    elif isinstance(value, dict):
        for one in value.values():
            _tensors(one, found)
    return found


def _mapped(function, value):
    """Nested arguments with a function of each tensor in its place."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list):
        return [_mapped(function, one) for one in value]
    if isinstance(value, tuple):
        return tuple(_mapped(function, one) for one in value)
    if isinstance(value, dict):
        return {name: _mapped(function, one) for name, one in value.items()}
    return value


CPU_INDEX = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
}
COPIES = {aten.copy_.default, aten._to_copy.default}
LOOKS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten._unique.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.is_nonzero.default,
    aten.repeat_interleave.Tensor,
}
# what raises on CUDA under torch.use_deterministic_algorithms
NONDETERMINISTIC = {
    aten.cumsum.default,
    aten.kthvalue.default,
    aten.median.dim,
    aten.histc.default,
    aten.grid_sampler_2d_backward.default,
    aten.put_.default,
    aten.nll_loss2d_forward.default,
    aten.reflection_pad2d_backward.default,
    aten.replication_pad2d_backward.default,
}


def _capture(action="an operation"):
    """The capture of this thread; that of another one forbids what it does in ``global`` mode."""
    record = STATE.capture
    if record is None or record.thread == threading.get_ident():
        return record
    if record.mode == "global":
        raise CaptureFailed(
            f"CUDA error: operation not permitted while another thread captures [{action}]"
        )
    return None


def _sync(func, why):
    if _capture(func) is not None:
        raise CaptureFailed(
            f"CUDA error: operation not permitted when stream is capturing [{func}: {why}]"
        )
    if STATE.sync_mode == 2:
        raise RuntimeError(f"called a synchronizing CUDA operation [{func}: {why}]")


@contextlib.contextmanager
def _cuda_generator(generator=None):
    """The CPU's default generator becomes the pretended device's for a moment."""
    generator = STATE.generator if generator is None else generator
    before = torch._C.default_generator.get_state()
    torch._C.default_generator.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch._C.default_generator.get_state())
        torch._C.default_generator.set_state(before)


def _is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def _check_devices(func, flat):
    cpu = [
        x
        for x in flat
        if isinstance(x, torch.Tensor) and not isinstance(x, Pretend) and x.device.type == "cpu"
    ]
    if not cpu or func in COPIES:
        return
    if func in CPU_INDEX:
        return  # indices may lie on the CPU; looked at in _classify
    rest = [x for x in cpu if x.dim() > 0]
    pointwise = torch.Tag.pointwise in func.tags or func.overloadpacket in (
        aten.fill_,
        aten.fill,
        aten.where,
        aten.masked_fill,
        aten.masked_fill_,
    )
    if rest or not pointwise:
        raise Mixed(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! [{func} {[tuple(x.shape) for x in cpu]}]"
        )


def dispatch(func, args, kwargs):
    flat = _tensors((args, kwargs))
    mine = [x for x in flat if isinstance(x, Pretend)]
    device = kwargs.get("device")
    to_cuda = _is_cuda(device)
    if not mine and not to_cuda:
        return func(*args, **kwargs)
    if func is aten._to_copy.default:
        target = (
            torch.device(device) if device is not None else (CUDA if mine else torch.device("cpu"))
        )
        src = args[0]
        if target.type not in ("cpu", "cuda"):
            return func(_unwrap(src), **kwargs)
        if isinstance(src, Pretend) != (target.type == "cuda"):
            nonblocking = kwargs.get("non_blocking", False)
            pinned = getattr(src, "_pinned", False)
            if not (nonblocking and pinned):
                _sync(func, "copy between host and device")
            elif _capture(func) is not None:
                _sync(func, "copy from host memory while capturing")
        given = {
            k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "non_blocking")
        }
        return _run(func, (_unwrap(src),), given, args, target.type == "cuda")
    if func is aten.copy_.default and isinstance(args[0], Pretend) != isinstance(args[1], Pretend):
        _sync(func, "copy between host and device")
        if not isinstance(args[0], Pretend):
            args[0].copy_(args[1].elem)
            return args[0]
    if mine:
        _check_devices(func, flat)
    if func in CPU_INDEX:
        idx = [i for i in args[1] if isinstance(i, torch.Tensor)]
        if any(i.dtype in (torch.bool, torch.uint8) for i in idx):
            _sync(func, "index by a mask")
        if any(not isinstance(i, Pretend) for i in idx):
            _sync(func, "index from the host")
    if func in LOOKS:
        _sync(func, "a look")
    is_whole_sum = func is aten.cumsum.default and not args[0].is_floating_point()
    if (
        torch.are_deterministic_algorithms_enabled()
        and func in NONDETERMINISTIC
        and not is_whole_sum
    ):
        raise RuntimeError(f"{func} does not have a deterministic implementation")
    a, k = _mapped(_unwrap, args), _mapped(_unwrap, kwargs)
    if to_cuda:
        k = {**k, "device": torch.device("cpu")}
    if device is not None and not to_cuda and torch.device(device).type == "cpu":
        # e.g. new_empty of a cuda tensor with device=cpu
        return func(*a, **k)
    if k.get("pin_memory"):
        k = {**k, "pin_memory": False}
    return _run(func, a, k, args, True, kwargs)


def _mutated(func, args, kwargs):
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            if value is not None:
                found.append((place, argument.name, value))
    return found


def _run(func, a, k, outer_args, wrap, outer_kwargs=None):
    random = torch.Tag.nondeterministic_seeded in func.tags
    writes = _mutated(func, a, k)
    capture = _capture(func)
    if capture is not None:
        for _, _, value in writes:
            for t in value if isinstance(value, (list, tuple)) else [value]:
                capture.save(t)
    given = k.get("generator") if random else None
    with _cuda_generator() if random and given is None else contextlib.nullcontext():
        out = func(*a, **k)
    is_view = func.is_view or func in (aten.detach.default, aten.alias.default)
    if capture is not None and not is_view:
        capture.add(func, a, k, out, bool(writes), random)
    if not wrap:
        return out
    # what was written comes back as the object that was given
    if writes and isinstance(out, torch.Tensor):
        place, name, value = writes[0]
        for p, n, v in writes:
            if v is out:
                place, name = p, n
        original = outer_args[place] if place < len(outer_args) else (outer_kwargs or {}).get(name)
        if isinstance(original, Pretend) and original.elem is out:
            if original.shape != out.shape:
                raise NotImplementedError(f"{func} changed a shape in place")
            return original
    ids = {}
    for x in _tensors((outer_args, outer_kwargs or {})):
        if isinstance(x, Pretend):
            ids[id(x.elem)] = x

    def back(t):
        if not isinstance(t, torch.Tensor):
            return t
        if writes and id(t) in ids:
            return ids[id(t)]
        return Pretend(t)

    return _mapped(back, out)


FAKE = torch._C._TorchDispatchModeKey.FAKE


class PretendMode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types_, args=(), kwargs=None):
        if torch._C._get_dispatch_mode(FAKE) is not None:  # below this one, whenever it was entered
            return func(*args, **(kwargs or {}))
        return dispatch(func, args, kwargs or {})


# -- CUDA graphs --------------------------------------------------------------------------------


class _Record:
    def __init__(self):
        self.steps, self.saved, self.start, self.generators = [], {}, None, []
        self.thread, self.mode = threading.get_ident(), "global"

    def save(self, t):
        key = (t.data_ptr(), t.shape, t.stride())
        ptr = t.untyped_storage().data_ptr()
        if ptr not in self.new and key not in self.saved:
            self.saved[key] = (t, t.detach().clone())

    new: set

    def add(self, func, a, k, out, writes, random):
        if random and all(STATE.generator is not one for one in self.generators):
            raise CaptureFailed("the generator is not registered with the graph")
        outs = _tensors(out)
        given = {
            t.untyped_storage().data_ptr() for t in _tensors((a, k)) if isinstance(t, torch.Tensor)
        }
        fresh = [t for t in outs if t.untyped_storage().data_ptr() not in given]
        for t in fresh:
            if t.numel():
                self.new.add(t.untyped_storage().data_ptr())
        self.steps.append((func, a, k, out, writes, STATE.generator if random else None))


class CUDAGraph:
    def __init__(self, *a, **k):
        self.record, self.generators = None, []

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        capture, STATE.capture = STATE.capture, None
        try:
            with torch.no_grad(), _disabled():
                for func, a, k, out, _, generator in self.record.steps:
                    used = contextlib.nullcontext()
                    if generator is not None:
                        used = _cuda_generator(generator)
                    with used:
                        found = func(*a, **k)
                    for mine, new in zip(_tensors(out), _tensors(found), strict=True):
                        if isinstance(mine, torch.Tensor) and mine.data_ptr() != new.data_ptr():
                            mine.copy_(new)
        finally:
            STATE.capture = capture

    def pool(self):
        return (0, 1)

    def reset(self):
        pass


@contextlib.contextmanager
def _disabled():
    guard = torch._C._DisableTorchDispatch()
    try:
        yield
    finally:
        del guard


@contextlib.contextmanager
def graph(cuda_graph, pool=None, stream=None, capture_error_mode="global"):
    torch.cuda.synchronize()
    record = _Record()
    record.new, record.mode = set(), capture_error_mode
    record.generators = [STATE.generator, *cuda_graph.generators]
    starts = [generator.get_state() for generator in record.generators]
    STATE.capture = record
    try:
        yield
    finally:
        STATE.capture = None
        for generator, start in zip(record.generators, starts, strict=True):
            generator.set_state(start)
        with torch.no_grad(), _disabled():
            for t, was in record.saved.values():
                t.copy_(was)
    cuda_graph.record = record


class Stream:
    def __init__(self, *a, **k):
        self.device = CUDA

    def wait_stream(self, other):
        pass

    def wait_event(self, other):
        pass

    def synchronize(self):
        _sync("stream.synchronize", "waits")

    def __eq__(self, other):
        return isinstance(other, Stream)

    def __hash__(self):
        return 0


class Event:
    def __init__(self, *a, **k):
        pass

    def record(self, *a):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 1.0


RealGenerator = torch.Generator


class Generator(RealGenerator):
    def __new__(cls, device="cpu"):
        cuda = torch.device(device).type == "cuda"
        g = RealGenerator.__new__(cls, "cpu" if cuda else device)
        g.of_cuda = cuda
        return g

    def __init__(self, device="cpu"):
        pass


def install():
    torch.Generator = Generator
    torch._C._set_only_lift_cpu_tensors(True)
    torch._C._ensureCUDADeviceGuardSet()
    with contextlib.suppress(AttributeError):
        torch._C._set_avoid_device_init(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.backends.cudnn.enabled = False
    cuda = torch.cuda
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 1
    cuda.is_initialized = lambda: True
    cuda.init = cuda._lazy_init = lambda: None
    cuda._is_in_bad_fork = lambda: False
    cuda.current_device = lambda: 0
    cuda.set_device = lambda d: None
    cuda.get_device_name = lambda d=None: "Pretend"
    cuda.get_device_capability = lambda d=None: (9, 0)
    cuda.get_device_properties = lambda d=None: types.SimpleNamespace(
        name="Pretend",
        total_memory=80 << 30,
        major=9,
        minor=0,
        multi_processor_count=132,
        gcnArchName="",
        warp_size=32,
        max_threads_per_multi_processor=2048,
    )
    cuda.is_bf16_supported = lambda *a, **k: True

    def synchronize(device=None):
        _sync("synchronize", "waits")

    cuda.synchronize = synchronize
    cuda.empty_cache = lambda: None
    for name in (
        "max_memory_allocated",
        "memory_allocated",
        "max_memory_reserved",
        "memory_reserved",
    ):
        setattr(cuda, name, lambda d=None: 0)
    cuda.reset_peak_memory_stats = lambda d=None: None
    cuda.mem_get_info = lambda d=None: (80 << 30, 80 << 30)

    def get_rng_state(device="cuda"):
        if _capture() is not None:
            raise CaptureFailed("get_state while capturing")
        return STATE.generator.get_state()

    def set_rng_state(state, device="cuda"):
        if _capture() is not None:
            raise CaptureFailed("set_state while capturing")
        if type(state) is not torch.Tensor:
            raise TypeError("RNG state must be a torch.ByteTensor")
        STATE.generator.set_state(state)

    cuda.get_rng_state, cuda.set_rng_state = get_rng_state, set_rng_state
    import torch.cuda.random as cr

    cr.get_rng_state, cr.set_rng_state = get_rng_state, set_rng_state

    class Default:
        """The default generator, in whose place others can be put."""

        def graphsafe_get_state(self):
            return STATE.generator

        def graphsafe_set_state(self, generator):
            STATE.generator = generator

    cuda.default_generators = (Default(),)

    def manual_seed(seed):
        STATE.generator.manual_seed(int(seed) % 2**63)

    for module in (cuda, cr):
        module.manual_seed = module.manual_seed_all = manual_seed
        module.seed_all = module.seed = lambda: STATE.generator.seed()
        module.get_rng_state_all = lambda: [get_rng_state()]
        module.set_rng_state_all = lambda s: set_rng_state(s[0])
    cuda.Stream, cuda.Event = Stream, Event
    cuda.current_stream = cuda.default_stream = lambda d=None: Stream()
    cuda.stream = lambda s: contextlib.nullcontext()

    class device:
        def __init__(self, d):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *a):
            return None

    cuda.device = device
    cuda.CUDAGraph, cuda.graph = CUDAGraph, graph
    cuda.graph_pool_handle = lambda: (0, 1)
    cuda.is_current_stream_capturing = lambda: _capture() is not None

    def set_sync_debug_mode(mode):
        STATE.sync_mode = {"default": 0, "warn": 1, "error": 2}.get(mode, mode)

    cuda.set_sync_debug_mode, cuda.get_sync_debug_mode = (
        set_sync_debug_mode,
        lambda: STATE.sync_mode,
    )
    torch.backends.cuda.is_built = lambda: True

    def pin_memory(self, *a, **k):
        new = self.clone()
        new._pinned = True
        return new

    torch.Tensor.pin_memory = pin_memory

    real_load = torch.load

    def load(f, map_location=None, **k):
        cuda_wanted = (
            map_location is not None
            and not callable(map_location)
            and not isinstance(map_location, dict)
            and torch.device(map_location).type == "cuda"
        )
        found = real_load(f, map_location="cpu" if cuda_wanted else map_location, **k)
        if cuda_wanted:
            found = _mapped(lambda t: t.to(CUDA), found)
        return found

    torch.load = load
    # fakes of pretended tensors
    from torch._subclasses import fake_tensor as ft

    real_from = ft.FakeTensorMode.from_tensor

    def from_tensor(self, tensor, **k):
        if isinstance(tensor, Pretend):
            with ft.unset_fake_temporarily(), _disabled():
                meta = torch.empty_strided(
                    tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
                )
            with ft.unset_fake_temporarily():
                fake = ft.FakeTensor(self, meta, CUDA)
            if tensor.requires_grad and not fake.requires_grad:
                fake.requires_grad_(True)
            return fake
        return real_from(self, tensor, **k)

    ft.FakeTensorMode.from_tensor = from_tensor
    mode = PretendMode()
    mode.__enter__()
    STATE.mode = mode
    return mode
