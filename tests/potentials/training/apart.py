"""Training runs in processes of their own, which can be killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from pointedge.potentials.training import run as training
from pointedge.potentials.training import trainer
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.run import RunStoppedError, train

# Its children share one import of torch, and none of the threads of the tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def start(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


def finish(target, *arguments, timeout=120):
    """Exit code of a process, which is minus the number of the signal that ended it."""
    process = start(target, *arguments)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{target.__name__} did not end in {timeout} s")
    return process.exitcode


def run(tree, folder, name, report=None):
    """Train; what it says goes to a file. Exit codes are those of the command."""
    torch.set_num_threads(1)
    with Path(folder, f"{name}.txt").open("a") as lines:

        def say(line):
            print(line, file=lines, flush=True)

        try:
            train(
                TrainingConfig.from_dict(tree), Path(folder, name), folder=Path(folder), report=say
            )
        except RunStoppedError as stopped:
            say(stopped)
            sys.exit(stopped.exit_code)
        except (ValueError, OSError) as error:
            say(error)
            sys.exit(2)


def killed(tree, folder, name, events):
    """The same, killed at one of its steps, or between two operations on files."""
    left = events

    def watched(function):
        def call(*arguments, **named):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    os.fsync, Path.replace = watched(os.fsync), watched(Path.replace)
    trainer.Trainer._train = watched(trainer.Trainer._train)
    run(tree, folder, name)


def signalled(tree, folder, name, step, number):
    """The same; it gets a signal in one of its steps."""
    original = trainer.Trainer._train

    def call(self, batch):
        original(self, batch)
        if self.schedule.steps == step:
            os.kill(os.getpid(), number)

    trainer.Trainer._train = call
    run(tree, folder, name)


def in_float64(tree, folder, name, rank=0, ranks=1, port=0):
    """One of several processes, which find each other as torchrun arranges it."""
    if ranks > 1:
        environment = {
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": ranks,
            "LOCAL_WORLD_SIZE": ranks,
            "RANK": rank,
            "LOCAL_RANK": rank,
            "GROUP_RANK": 0,
        }
        os.environ.update({key: str(value) for key, value in environment.items()})
    initial = training._initial_potential
    training._initial_potential = lambda *arguments: initial(*arguments).to(torch.float64)
    run(tree, folder, name)


def without_room(tree, folder, name, limit):
    """The same; no file can be longer than a limit in bytes, as if the disk were full there."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run(tree, folder, name)
