"""The loop of a run: steps, validations, checkpoints, and the ways in which it ends.

Lightning's Fabric brings devices, processes and machines; the loop itself is here, since what a run
does next has to follow from its state to the last bit, in the middle of an epoch too.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from .. import checkpoint
from .averaging import ExponentialAverage
from .batching import batch_sampler, loader, sizes
from .config import TrainingConfig
from .data import Batch
from .dataset import FrameDataset
from .display import Display
from .folder import RunFolder, State
from .interruptions import Interruption
from .logs import Log
from .module import TrainingModule, in_words
from .plots import Picture
from .ranks import average_gradients, share_weights
from .schedule import Schedule
from .sets import TRAINING, VALIDATION, data_of, refuse_other_data
from .summary import Range

# Every network begins by saying little of forces. One that still does not has perhaps had steps so
# large that its units are flat, and then it never learns, well as its energies may look.
LATE = 0.1  # of the run
NO_BETTER = 0.99  # of the labels' root mean square
AGREE_EVERY = 10  # steps on GPUs, which have to be waited for


class Trainer:
    """A run at one of its steps.

    Args:
        fabric: launched.
        module: on the CPU; it is moved to the device.
        config: of the run.
        frames: training frames, one to a batch.
        validation_frames: likewise.
        folder: for log, checkpoints and best weights.
        display: shows the progress.

    Attributes:
        schedule: where the run is.
    """

    def __init__(
        self,
        fabric: Fabric,
        module: TrainingModule,
        config: TrainingConfig,
        frames: FrameDataset,
        validation_frames: FrameDataset,
        folder: RunFolder,
        display: Display,
    ) -> None:
        self.fabric, self.config, self.folder = fabric, config, folder
        self.display = display
        self.module = module.to(fabric.device)
        share_weights(fabric, self.module)
        self.parameters = [p for p in module.potential.parameters() if p.requires_grad]
        self.optimizer = module.configure_optimizers()
        self.average = ExponentialAverage(self.parameters, config.optimization.ema_decay)
        sampler = partial(batch_sampler, rank=fabric.global_rank, ranks=fabric.world_size)
        self.sampler = sampler(frames, config.optimization)
        self.schedule = Schedule(config.optimization, self.sampler)
        self.frames = frames
        self.data = data_of({TRAINING: frames, VALIDATION: validation_frames})
        labels = validation_frames.summary.labels
        self.forces_rms = 1000 * labels.get("forces", Range()).rms  # meV/Å, or NaN
        self.num_atoms, _ = sizes(frames)
        fixed = sampler(validation_frames, config.optimization, shuffled=False)
        self.validation = loader(validation_frames, list(fixed.epoch(0)))
        self.finite = torch.ones((), dtype=torch.bool, device=fabric.device)
        self.stepped = False  # in this process
        self.log: Log | None = None
        self.picture: Picture | None = None

    def fit(self, interruption: Interruption) -> None:
        """Train to the end of the schedule, from wherever the folder's state is.

        Raises:
            RunStoppedError: the run was asked to stop before; its state is saved.
            ValueError: the loss is not finite, or a file cannot be written.
        """
        self._resume()
        try:
            with interruption, self.display:
                self._run(interruption)
        finally:
            if self.log is not None:
                self.log.close()

    def _run(self, interruption: Interruption) -> None:
        settings, schedule = self.config.run, self.schedule
        augment = self.config.optimization.seed if self.config.optimization.augment else None
        sampler = self.sampler.starting_at(schedule.epoch, schedule.step)
        batches = iter(loader(self.frames, sampler, augment=augment, workers=settings.workers))
        saved = clock = time.monotonic()
        self.module.train()
        while schedule.unfinished:
            validation = schedule.due
            if validation:
                self._validate(interruption)
            else:
                self._train(next(batches))
            now = time.monotonic()
            overdue = now - saved > 60 * settings.checkpoint_minutes
            stop, overdue, spent = self._agreed(interruption.wanted, overdue, now - clock)
            schedule.seconds += spent
            clock = now if spent else clock
            if stop or overdue or ((validation or schedule.step == 0) and not schedule.due):
                self._save()
                saved = time.monotonic()
            if stop:
                self.fabric.barrier()  # the first rank ends the others when it is done
                raise interruption.error(str(schedule))

    def _train(self, batch: Batch | None) -> None:
        """One step, with this rank's share of a batch."""
        schedule, rate = self.schedule, self.schedule.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        self.optimizer.zero_grad()
        loss = self.module.training_step(None if batch is None else batch.to(self.fabric.device))
        if loss.requires_grad:
            loss.backward()
        average_gradients(self.fabric, self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.optimization.gradient_clip)
        self.finite &= norm.isfinite() & loss.detach().isfinite()
        if self.fabric.device.type == "cpu":  # a GPU would have to be waited for
            self._check_finite()
        self.optimizer.step()
        self.average.update()
        atoms = int(self.num_atoms[schedule.batch].sum())
        schedule.advance()
        self.stepped = True
        self.display.update(schedule.progress, atoms, str(schedule))
        if schedule.steps % self.config.run.log_every == 0:
            self._check_finite()
            self._log({"learning_rate": rate, **self.module.training_errors()})

    def _validate(self, interruption: Interruption) -> None:
        """Errors of the averaged weights, which are kept if they are the best so far."""
        self._check_finite()
        self.module.eval()
        with self.average.applied():
            for batch in self.validation:
                if self._may_stop(interruption):
                    self.module.forget()  # it begins anew when the run is resumed
                    break
                if batch is not None:
                    batch = batch.to(self.fabric.device)
                    prediction = self.module.validation_step(batch)
                    if self.picture is not None:
                        self.picture.add(batch, prediction)
            else:
                self._keep(self.module.validation_errors())
                self.schedule.validated = self.schedule.steps
        self.module.train()
        if self.picture is not None and not self.schedule.due:
            problem = self.picture.draw(final=self.schedule.progress >= 1)
            if problem is not None:
                self.display.line(problem)

    def _may_stop(self, interruption: Interruption) -> bool:
        """Whether to stop within a validation.

        Not for time where this process has done nothing else: with as much the next would get no
        farther.
        """
        asked = interruption.signal is not None or (self.stepped and interruption.wanted)
        return asked and self.fabric.world_size == 1

    def _keep(self, errors: dict[str, float]) -> None:
        """Report validation errors, and write the weights if they are the best."""
        schedule, score = self.schedule, self.module.loss.score(errors)
        if not math.isfinite(score):
            raise ValueError(
                f"validation errors of step {schedule.steps} are not finite ({in_words(errors)}); "
                f"look at the validation frames, or {self.folder.gentler()}."
            )
        better = score < schedule.best
        self.display.line(
            f"{schedule}, {schedule.seconds / 60:.0f} min: validation RMSE {in_words(errors)}"
            f"{' (best)' if better else ''}"
        )
        if schedule.progress > LATE and errors.get("forces", 0.0) > NO_BETTER * self.forces_rms > 0:
            self.display.line(
                "warning: forces are no better than zeros still, and may stay so; if they do,"
                f" {self.folder.gentler(from_best=False)}."  # these weights have learned nothing
            )
        self._log({f"validation_{name}": error for name, error in errors.items()})
        if better:
            schedule.best = score
            potential = self.module.potential
            potential.information["validation_rmse"] = errors
            potential.information["steps"] = schedule.steps
            if self.fabric.is_global_zero:
                checkpoint.save(potential, self.folder.best)

    def _log(self, values: dict[str, Any]) -> None:
        if self.log is not None:
            where = {"step": self.schedule.steps, "epoch": self.schedule.epoch}
            speed = round(self.display.atoms_per_second)
            minutes = round(self.schedule.seconds / 60, 2)
            self.log.row({**where, **values, "atoms_per_second": speed, "minutes": minutes})

    def _check_finite(self) -> None:
        """Stop before weights that are not numbers are written anywhere."""
        if not self.finite:
            how = self.folder.gentler()
            raise ValueError(
                f"loss or gradient is not finite in step {self.schedule.steps}; {how}."
            )

    def _agreed(self, stop: bool, save: bool, spent: float) -> tuple[bool, bool, float]:
        """Whether any rank wants to stop, or to save, and the time of the first rank's clock.

        All have to do so in the same step, and to be at the same point of a schedule by time.
        """
        if self.fabric.world_size == 1:
            return stop, save, spent
        between = self.schedule.step > 0 and not self.schedule.due
        if self.fabric.device.type != "cpu" and between and self.schedule.steps % AGREE_EVERY:
            return False, False, 0.0
        mine = [float(stop), float(save), spent if self.fabric.is_global_zero else 0.0]
        wishes = torch.tensor(mine, dtype=torch.float64, device=self.fabric.device)
        stops, saves, seconds = self.module.loss.reduce(wishes).tolist()
        return stops > 0, saves > 0, seconds

    def _save(self) -> None:
        """Write the state of the run."""
        self._check_finite()
        state = self.state_dict()
        if self.log is not None:
            self.folder.save({**state, "log": self.log.length()})

    def state_dict(self) -> State:
        """All that decides the steps to come, to the last bit."""
        return {
            **self.data,
            **self.schedule.state_dict(),
            "module": self.module.state_dict(),
            "window": self.module.loss.reduce(self.module.window),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            # No step draws from torch's generator today; a network with dropout would.
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state; raises ValueError if it is not one of this run."""
        refuse_other_data(state, self.data, self.folder.path)
        self.schedule.load_state_dict(state)
        self.module.load_state_dict(state["module"])
        if self.fabric.is_global_zero:
            self.module.window.copy_(state["window"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])

    def _resume(self) -> None:
        state = self.folder.load(self.display.line)
        if state is not None:
            self.load_state_dict(state)
            rate = self.optimizer.param_groups[0]["lr"]
            self.display.line(f"resuming at {self.schedule}, learning rate {rate:.2g}")
        if self.fabric.is_global_zero:
            length = 0 if state is None else state["log"]
            loggers = self.config.run.loggers
            self.log = Log(self.folder, length, loggers=loggers, report=self.display.line)
            if self.config.run.plot:
                self.picture = Picture(self.folder, self.config.loss)
            if self.schedule.unfinished:
                self.folder.results.unlink(missing_ok=True)  # of what goes on now
