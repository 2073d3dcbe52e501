"""What the processes of a run tell each other; with one process, nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from .loss import alone


def launch(device: str, devices: int, num_nodes: int) -> Fabric:
    """Start the processes of a run and return what connects them.

    Under torchrun, what it was told counts; else this machine's other processes are started with
    the command line of this one, and SLURM's or the user's own are found by their environment.

    Args:
        device: "cpu", "cuda" or another of torch's; "cuda:1" is the second GPU alone.
        devices: processes on this machine.
        num_nodes: machines.

    Raises:
        ValueError: the device is not there, or the environment has another number of processes.
    """
    kind, _, index = device.partition(":")
    if index and not index.isdecimal():
        raise ValueError(f"there is no device {device}; give cpu, cuda, or cuda:1 for the second.")
    if kind == "cpu":
        index = ""  # there is one only
    if index and devices > 1:
        raise ValueError(f"device {device} is one device, not {devices}; leave its number out.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {device} cannot be used: torch {torch.__version__} finds no NVIDIA GPU; give "
            "--device cpu, or install a torch for your GPU (https://pytorch.org)."
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    several = devices * num_nodes > 1
    try:
        fabric = Fabric(
            accelerator="gpu" if kind == "cuda" else kind,
            devices=[int(index)] if index else devices,
            num_nodes=num_nodes,
            strategy="ddp" if several else "auto",
            plugins=[environment()],
        )
        fabric.launch()
    except (MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(f"device {device}: {' '.join(str(error).split())}") from None
    return fabric


@contextmanager
def ends_all(fabric: Fabric) -> Iterator[None]:
    """End all ranks where the first fails: alone, they would wait for it, or fail with less to say.

    Raises:
        SystemExit: on the others; the first raises what it has to say.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        several = fabric.world_size > 1
        of_first = fabric.broadcast(failed) if several else failed
        if of_first and not failed:
            raise SystemExit(2)


def environment() -> ClusterEnvironment:
    """What started the processes of a run, told by environment variables.

    Left to itself, Lightning also asks mpi4py where that is installed, which initialises MPI.
    """
    for kind in (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment):
        if kind.detect():
            return kind()
    return LightningEnvironment()


def reducer(fabric: Fabric) -> Callable[[Tensor], Tensor]:
    """Sum of a tensor over all ranks."""
    if fabric.world_size == 1:
        return alone
    return lambda tensor: fabric.all_reduce(tensor.clone(), reduce_op="sum")  # type: ignore[return-value]


def share_weights(fabric: Fabric, module: nn.Module) -> None:
    """Give all ranks the tensors of the first: machines differ in the last bits of a fit."""
    if fabric.world_size > 1:
        for tensor in module.state_dict().values():
            tensor.copy_(fabric.broadcast(tensor))


def average_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """Mean over ranks of all gradients; a rank without any has zeros.

    DistributedDataParallel does not know what a potential does in its forward pass (it says so: no
    ``torch.autograd.grad``, which makes the forces), so that the mean is taken after the backward
    pass, in one message.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if fabric.world_size == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters])  # type: ignore[union-attr]
    mean: Tensor = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    for parameter, part in zip(
        parameters, mean.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad.copy_(part.view_as(parameter))  # type: ignore[union-attr]
