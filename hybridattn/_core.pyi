"""Types of the C core. Arrays of other dtypes are converted where nothing is lost, else it is a TypeError."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, Self, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import CapsuleType, disjoint_base

_F32 = npt.NDArray[np.float32]
_F64 = npt.NDArray[np.float64]
_I32 = npt.NDArray[np.int32]
_I64 = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.uint8] | npt.NDArray[np.bool_]
_Spec = dict[str, Any]
_Storage = str  # float32, bfloat16, float16, q8_0, q4_0 or q4_1
_Arrays = dict[str, npt.NDArray[Any]]
_Dtype = Literal["float32", "bfloat16", "float16"]

ops: ModuleType
reference: ModuleType

def pack(matrix: _F32, dtype: _Storage, factor: _F32 | None = None) -> npt.NDArray[np.uint8]: ...
def unpack(data: npt.NDArray[np.uint8], dtype: _Storage) -> _F32: ...
def show_config() -> dict[str, Any]: ...
def mixers() -> dict[str, dict[str, Any]]: ...
def register_mixer(
    name: str,
    forward: Callable[[_Arrays, _F32, _I64], tuple[npt.NDArray[Any], Any]],
    vjp: Callable[[_Arrays, Any, _F32], tuple[npt.NDArray[Any], _Arrays]],
    step: Callable[[_Arrays, _F32, _F32], tuple[npt.NDArray[Any], npt.NDArray[Any]]] | None,
    parameters: Callable[[dict[str, Any]], dict[str, int | Sequence[int]]],
    init: Callable[[np.random.Generator, dict[str, Any], _Arrays], _Arrays],
    state: Callable[[dict[str, Any]], int | Sequence[int]] | None = None,
    *,
    bidirectional: bool = False,
    summary: str = "registered from Python",
    phrase: str | None = None,
    align_lr: float = 0.001,
) -> None: ...
def set_num_threads(n: int, /) -> int: ...
def get_num_threads() -> int: ...
def request_stop() -> bool: ...
def take_stop() -> bool: ...

@final
class Tensor:
    def __new__(cls, shape: int | Sequence[int], dtype: _Dtype = "float32") -> Self: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> _Dtype: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def numpy(self) -> npt.NDArray[Any]: ...
    def to(self, dtype: _Dtype, /) -> Tensor: ...
    @classmethod
    def from_numpy(cls, array: npt.NDArray[Any], /) -> Tensor: ...
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @classmethod
    def from_dlpack(cls, tensor: Any, /) -> Tensor: ...

@disjoint_base
class Model:
    def __init__(self, config: Mapping[str, Any], layers: Sequence[Sequence[Mapping[str, Any]]]) -> None: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def layers(self) -> list[list[_Spec]]: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def gates(self) -> _F32: ...
    @property
    def compute(self) -> Literal["float32", "bfloat16"]: ...
    @compute.setter
    def compute(self, name: str, /) -> None: ...
    def parameters(self, stored: bool = True) -> dict[str, Tensor]: ...
    def store(self, name: str, dtype: _Storage, data: npt.NDArray[np.uint8]) -> None: ...
    def stored(self) -> dict[str, tuple[str, npt.NDArray[np.uint8]]]: ...
    def moments(
        self,
        tokens: _I32,
        windows: _I64,
        names: Iterable[str],
        segments: _I32 | None = None,
        into: dict[str, _F32] | None = None,
    ) -> dict[str, _F32]: ...
    def trace_layer(
        self,
        layer: int,
        tokens: _I32,
        windows: _I64,
        incoming: _F32 | None = None,
        linear: bool = False,
        segments: _I32 | None = None,
    ) -> _Arrays: ...
    def set_branch(self, branch: Literal["both", "softmax", "linear"], layer: int | None = None) -> None: ...
    def matrices(self) -> list[str]: ...
    def parameter_info(self) -> list[tuple[str, tuple[int, ...], Literal["mixer", "rest", "fixed"]]]: ...
    def init_mixers(self, seed: int = 0) -> None: ...
    def logits(
        self,
        tokens: _I32,
        mask: _Mask | None = None,
        cache: Cache | None = None,
        last: bool = False,
        segments: _I32 | None = None,
    ) -> _F32: ...
    def hidden(
        self,
        tokens: _I32,
        mask: _Mask | None = None,
        cache: Cache | None = None,
        segments: _I32 | None = None,
    ) -> _F32: ...
    def nll(self, tokens: _I32, mask: _Mask | None = None) -> _F32: ...
    def forward_windows(
        self, tokens: _I32, windows: _I64, out: _F32, segments: _I32 | None = None
    ) -> None: ...
    def task_logits(self, tokens: _I32, windows: _I64, segments: _I32 | None = None) -> _F32: ...
    def cost(self, context: float = 1024.0) -> list[dict[str, dict[str, float]]]: ...

@final
class Cache:
    def __new__(cls, model: Model, batch: int = 1, dtype: Literal["f32", "f16"] = "f32") -> Self: ...
    @property
    def dtype(self) -> Literal["f32", "f16"]: ...
    @property
    def lengths(self) -> _I64: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def bytes_per_token(self) -> int: ...
    def layer_bytes(self) -> list[dict[str, int]]: ...
    def _repr_html_(self) -> str: ...
    def fork(self, batch: int | None = None) -> Self: ...
    def reserve(self, tokens: npt.ArrayLike, /) -> None: ...
    def state(self) -> dict[str, npt.NDArray[Any]]: ...
    def load_state(self, state: Mapping[str, npt.NDArray[Any]], /) -> None: ...
    def reset(self) -> None: ...
    def trail(self, tokens: int, /) -> None: ...
    def rewind(self, tokens: npt.ArrayLike, /) -> None: ...

@final
class KLScorer:
    def __new__(cls, model: Model, teacher: Model | None = None) -> Self: ...
    @property
    def layer_passes(self) -> int: ...
    @property
    def measure(self) -> Literal["kl", "task_kl", "task_mse", "hidden"]: ...
    @overload
    def kl(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32 | None = None,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
        agreement: Literal[False] = False,
    ) -> _F64: ...
    @overload
    def kl(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32 | None = None,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
        *,
        agreement: Literal[True],
    ) -> tuple[_F64, _F64]: ...
    @overload
    def evaluate(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32 | None = None,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
        agreement: Literal[False] = False,
    ) -> tuple[_F64, _F64]: ...
    @overload
    def evaluate(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32 | None = None,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
        *,
        agreement: Literal[True],
    ) -> tuple[_F64, _F64, _F64]: ...
    def flip(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32,
        layers: Sequence[int],
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        nll: bool = False,
        segments: _I32 | None = None,
    ) -> tuple[_F64, _F64]: ...
    def gate_gradient(
        self,
        tokens: _I32,
        windows: _I64,
        gates: _F32,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
    ) -> tuple[_F64, _F64]: ...
    def alignment(self, tokens: _I32, windows: _I64, segments: _I32 | None = None) -> tuple[_F64, _F64]: ...

@final
class Distiller:
    def __new__(
        cls,
        student: Model,
        teacher: Model | None = None,
        stage: Literal["align", "distill", "finetune"] = "align",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: float = 1.0,
        micro_batch: int = 0,
        layers: Sequence[int] | None = None,
        recompute: bool | int = False,
        moments: Literal["float32", "bfloat16"] = "float32",
        head_rows: int = 0,
    ) -> Self: ...
    step: int
    def run(
        self,
        tokens: _I32,
        windows: _I64,
        lr: _F32,
        start: int,
        stop: int,
        teacher_hidden: _F32 | None = None,
        callback: Callable[[int, float, float, int], object] | None = None,
        weights: _F32 | None = None,
        labels: npt.NDArray[Any] | None = None,
        segments: _I32 | None = None,
        losses: _F64 | None = None,
    ) -> _F64: ...
    def arena(self, name: Literal["weights", "m", "v"], /) -> Tensor: ...
    def blocks(self) -> _I64: ...
    def stages(self) -> _I64: ...
    @property
    def finished(self) -> int: ...
    def gradients(
        self,
        tokens: _I32,
        windows: _I64,
        first: int,
        stop: int,
        grads: _F32,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        labels: npt.NDArray[Any] | None = None,
        segments: _I32 | None = None,
    ) -> float: ...
    def fold(self, sum: _F32, more: _F32, /) -> None: ...
    def squares(self, grads: _F32, first: int, stop: int, /) -> _F64: ...
    def update(self, grads: _F32, first: int, stop: int, norm: float, lr: tuple[float, float], /) -> None: ...
    def align_part(
        self,
        tokens: _I32,
        windows: _I64,
        lr: _F32,
        first: int,
        stop: int,
        incoming: _F32 | None,
        outgoing: _F32 | None,
        segments: _I32 | None = None,
    ) -> _F64: ...
    def rehearse(
        self,
        tokens: _I32,
        windows: _I64,
        teacher_hidden: _F32 | None = None,
        weights: _F32 | None = None,
        segments: _I32 | None = None,
    ) -> tuple[int, npt.NDArray[np.uintp]]: ...
    def reserve(self, bytes: int, /) -> None: ...
    def moments(self) -> dict[str, dict[str, Tensor]]: ...
    def trainable(self) -> list[str]: ...
