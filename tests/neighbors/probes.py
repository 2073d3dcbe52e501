"""What a piece of torch code costs: waits of the host for the device, and tensor memory."""

from __future__ import annotations

from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators whose result size or value the host must know, so that it waits for a GPU.
_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique", "_unique2",
            "unique_dim", "unique_consecutive", "equal")  # fmt: skip


class SyncCounter(TorchDispatchMode):
    """Counts operations for which the host would wait if the tensors were on a GPU.

    Attributes:
        waits: names of the operations, in order.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        self._patches = [
            mock.patch.object(torch.Tensor, name, self._counted(name))
            for name in ("tolist", "numpy", "cpu")
        ]

    def _counted(self, name):
        original = getattr(torch.Tensor, name)

        def method(tensor, *args, **kwargs):
            self.waits.append(name)
            return original(tensor, *args, **kwargs)

        return method

    def __enter__(self):
        for patch in self._patches:
            patch.start()
        return super().__enter__()

    def __exit__(self, *exception):
        for patch in self._patches:
            patch.stop()
        return super().__exit__(*exception)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        ragged = name == "repeat_interleave" and kwargs.get("output_size") is None
        # A tensor made from host data would be copied to the device, which also waits.
        if name in _WAITING or masks or ragged or name == "lift_fresh":
            self.waits.append(name)
        return func(*args, **kwargs)


class TensorMemory(TorchDispatchMode):
    """Records the memory of the tensors that code allocates.

    Attributes:
        peak: largest sum of the bytes of all live tensors allocated inside, after an operation.
        largest: number of elements of the largest of them.
    """

    def __init__(self):
        super().__init__()
        self.peak = 0
        self.largest = 0
        self._outside = set()
        self._live = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                key = StorageWeakRef(tensor.untyped_storage()).cdata
                if key not in self._live:
                    self._outside.add(key)
        result = func(*args, **(kwargs or {}))
        self._live = {key: (ref, n) for key, (ref, n) in self._live.items() if not ref.expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                ref = StorageWeakRef(tensor.untyped_storage())
                if ref.cdata not in self._outside:
                    self._live[ref.cdata] = (ref, tensor.untyped_storage().nbytes())
                    size = tensor.untyped_storage().nbytes() // tensor.element_size()
                    self.largest = max(self.largest, size)
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result
