"""The network run by OpenVINO, which is faster than PyTorch on processors.

Its kernels for bf16 use AMX and AVX-512, its threads do not wait for each other in spin loops, and
Python's lock is free while it computes. Each lane is one core: two cores do two batches of eight in
less time than one batch of sixteen.

Importing openvino, and converting a model with it, would report to a server on the internet unless
its telemetry package is absent, so that package is hidden from it. No worker of a bank speaks to
strangers.
"""

# ruff: noqa: E402  (what is hidden must be hidden before openvino is imported)
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import properties
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from .arrays import Images, Vectors
from .preprocess import Preprocessing
from .siamese import SiameseNet

SIZES = (8, 4, 1)
"""Batches are cut into these: a compiled size is twice as fast as a batch of any size."""


class OpenVinoEngine:
    """A network compiled for this processor, `lanes` batches at a time, one core each.

    `half` lets it multiply in bf16.
    """

    batch = SIZES[0]

    def __init__(self, model: SiameseNet, how: Preprocessing, *, lanes: int, half: bool) -> None:
        self.lanes = lanes
        cores = "1 core" if lanes == 1 else f"{lanes} cores"
        self.name = f"OpenVINO {'bf16' if half else 'float32'} on {cores}"
        self.why = "openvino is installed" + (", the processor multiplies in bf16" if half else "")
        self._model = model
        self._compiled = _compiled(_graph(model, how), lanes, half)
        self._requests = threading.local()  # an infer request serves one thread

    @torch.no_grad()
    def __call__(self, images: Images) -> Vectors:
        """Inputs (N, 1, H, W) -> embeddings (N, D), float32.

        What is not learnt stays with PyTorch in float32: it is little work, and half a pixel
        matters to it.
        """
        pages = torch.from_numpy(images)
        seen = self._model.see(pages)
        parts = [self._infer(seen[part].numpy()) for part in _parts(len(images))]
        learnt = torch.from_numpy(np.concatenate(parts))
        return np.asarray(self._model.complete(learnt, pages, seen).numpy())

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        request = self._request(len(images))
        request.infer([np.ascontiguousarray(images)])
        return np.array(request.get_output_tensor().data)  # the tensor is used again

    def _request(self, size: int) -> Any:
        requests = self._requests.__dict__.setdefault("by_size", {})
        if size not in requests:
            requests[size] = self._compiled[size].create_infer_request()
        return requests[size]


def _compiled(graph: Any, lanes: int, half: bool) -> dict[int, Any]:
    """The graph compiled for each size of batch, a quarter of a second each."""
    wanted = {
        properties.hint.inference_precision: openvino.Type.bf16 if half else openvino.Type.f32,
        properties.hint.execution_mode: properties.hint.ExecutionMode.PERFORMANCE,
        properties.num_streams: lanes,
        properties.inference_num_threads: lanes,
        # Bound to cores, they would wait for Python's threads that happen to be there.
        properties.hint.enable_cpu_pinning: False,
    }
    core, compiled = openvino.Core(), {}
    for size in SIZES:
        graph.reshape([size, *list(graph.input().partial_shape)[1:]])
        compiled[size] = core.compile_model(graph, "CPU", wanted)
    return compiled


class _Learnt(nn.Module):
    """`SiameseNet.learnt` as a module of its own, which is what can be traced."""

    def __init__(self, model: SiameseNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, seen: Tensor) -> Tensor:
        return self.model.learnt(seen)


@torch.no_grad()
def _graph(model: SiameseNet, how: Preprocessing) -> Any:
    """The network as OpenVINO sees it, for batches of any size."""
    example = model.see(torch.ones(2, 1, how.height, how.width))
    with warnings.catch_warnings():
        # torch.jit is deprecated for torch.export, which takes ten times as long for the same graph
        # here; and tracing fixes Python's branches, which are the same for all inputs.
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Learnt(model).eval(), example, check_trace=False
        )
        traced = torch.jit.freeze(traced)
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    front_end = FrontEndManager().load_by_framework("pytorch")
    graph = front_end.convert(front_end.load(decoder))
    parameter = graph.get_parameters()[0]
    parameter.set_element_type(openvino.Type.f32)
    parameter.set_partial_shape(openvino.PartialShape([-1, *example.shape[1:]]))
    graph.validate_nodes_and_infer_types()
    return graph


def _parts(count: int, sizes: Sequence[int] = SIZES) -> Iterator[slice]:
    """Cut `count` images into batches of the compiled sizes, largest first.

    >>> [(part.start, part.stop) for part in _parts(14)]
    [(0, 8), (8, 12), (12, 13), (13, 14)]
    """
    start = 0
    for size in sizes:
        while count - start >= size:
            yield slice(start, start + size)
            start += size
