"""A loss that is not finite ends a run with advice that can be followed."""

import re

import pytest

from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.module import TrainingModule
from pointedge.potentials.training.run import train
from pointedge.potentials.training.tree import override

LOWER = "optimization.learning_rate=1e-4"


@pytest.fixture
def attempt(config, tmp_path, monkeypatch):
    """Trains with overrides; step ``bad`` of it has no finite loss."""
    original = TrainingModule.training_step

    def run(name, *overrides, bad=None):
        steps = 0

        def step(self, batch):
            nonlocal steps
            steps += 1
            loss = original(self, batch)
            return loss * float("nan") if steps == bad else loss

        monkeypatch.setattr(TrainingModule, "training_step", step)
        for text in overrides:
            override(config, text)
        lines = []
        settings = TrainingConfig.from_dict(config)
        train(settings, tmp_path / name, folder=tmp_path, report=lines.append)
        return lines

    config["optimization"]["max_epochs"] = 2
    return run


def test_before_a_state_the_same_folder_takes_a_lower_rate(attempt):
    message = r"not finite in step 0; lower optimization\.learning_rate\.$"
    with pytest.raises(ValueError, match=message):
        attempt("run", bad=1)
    assert attempt("run", LOWER)[-1].split()[0] == "validation"


@pytest.mark.parametrize("bad", [3, 8])
def test_after_it_another_folder_does_and_starts_from_the_best(attempt, tmp_path, bad):
    """In the first epoch there are no best weights; in the second they are a start."""
    message = r"in step \d; begin a run in another folder, with (start_from=(\S+) and )?a lower"
    with pytest.raises(ValueError, match=message) as refused:
        attempt("run", "run.checkpoint_minutes=1e-9", bad=bad)
    start = re.search(message, str(refused.value))
    assert (start[1] is not None) == (bad == 8)
    with pytest.raises(ValueError, match="other settings"):
        attempt("run", LOWER)
    lines = attempt("other", LOWER, *([f"start_from={start[2]}"] if start[1] else []))
    assert lines[-1].split()[0] == "validation"
    started = any(line.startswith("before training, energies") for line in lines)
    assert started == (bad == 8)
