"""Full disks, folders that cannot be written, and Ctrl-C: a clear word, and nothing lost."""

from __future__ import annotations

import resource
import sys
from contextlib import contextmanager
from pathlib import Path

import ase.io
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from pointedge.calculators.cli import main
from pointedge.calculators.md import run_md
from pointedge.potentials import checkpoint
from pointedge.potentials.files import UnwrittenError, check_writable, replacing

from .conftest import small_potential
from .quick import SoftSpheres, argon, files, settings

# Folders that exist and that nobody can write into, root included, whom permissions do not stop.
CLOSED = "/proc/self"


class Counting(SoftSpheres):
    """Counts calls of all instances, and is interrupted at one of them."""

    calls, last = 0, None

    def calculate(self, *args, **kwargs):
        type(self).calls += 1
        if type(self).calls == self.last:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


class Interrupted(Counting):
    last = 3


@pytest.fixture(autouse=True)
def _no_calls_yet():
    Counting.calls = Interrupted.calls = 0


MODEL, STOPPED = f"{__name__}:Counting", f"{__name__}:Interrupted"


@contextmanager
def room_for(size):
    """No file may grow beyond so many bytes: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def pointedge(monkeypatch, capsys):
    """Run the command; returns its exit code and what it said on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pointedge", *(str(a) for a in arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return end.value.code, error

    return run


@pytest.fixture
def frames(tmp_path):
    """Ten labelled frames of argon."""
    found = []
    for k in range(10):
        atoms = argon()
        atoms.rattle(0.1, seed=k)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    ase.io.write(tmp_path / "frames.xyz", found)
    return tmp_path / "frames.xyz"


@pytest.mark.parametrize("size", [0, 300, 3000, 12_000, 20_000])
def test_md_on_a_full_disk_goes_on_later(tmp_path, size):
    run = settings(steps=60)
    run_md(argon(), run, tmp_path / "whole")
    with (
        room_for(size),
        pytest.raises(UnwrittenError, match=r"cannot be written into .*cut \(File"),
    ):
        run_md(argon(), run, tmp_path / "cut")
    run_md(argon(), run, tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_the_command_md_says_how_to_go_on(pointedge, tmp_path):
    ase.io.write(tmp_path / "fluid.xyz", argon())
    command = ("md", tmp_path / "fluid.xyz", "--model", MODEL, "--output", tmp_path / "run")
    with room_for(12_000):
        code, error = pointedge(*command, "--steps", 100)
    assert code == 2
    assert error == (
        f"pointedge: the run cannot be written into {tmp_path / 'run'} (File too large); make "
        "room, and the same command goes on from the last frame.\n"
    )


def test_a_picture_that_does_not_fit_leaves_the_run_and_its_table(monkeypatch, tmp_path, capsys):
    ase.io.write(tmp_path / "fluid.xyz", argon())
    words = ["md", "fluid.xyz", "--model", MODEL, "--output", "run", "--steps", "100"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pointedge", *words, "--interval", "100"])
    with room_for(30_000), pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.err == "pointedge: run/md.png could not be written (File too large)\n"
    assert "temperature, second half" in said.out


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_evaluate_leaves_the_old_file_where_the_new_one_does_not_fit(
    pointedge, frames, tmp_path, option
):
    output = tmp_path / "out.png"
    output.write_text("old")
    with room_for(200):
        code, error = pointedge("evaluate", MODEL, frames, option, output)
    assert code == 2
    assert error == (
        f"pointedge: {output} could not be written (File too large); its last version is whole\n"
    )
    assert output.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"frames.xyz", "out.png"}


@pytest.mark.parametrize("suffix", [".xyz", ".db"])
def test_predict_leaves_no_half_of_a_file(pointedge, frames, tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    ase.io.write(source, ase.io.read(frames, ":"))
    target = tmp_path / f"out{suffix}"
    with room_for(source.stat().st_size // 2):
        code, error = pointedge("predict", MODEL, source, target)
    assert code == 2
    assert error.startswith(f"pointedge: {target} could not be written (")
    assert error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"frames.xyz", source.name}


def test_a_relaxed_structure_is_rescued(pointedge, tmp_path, monkeypatch):
    ase.io.write(tmp_path / "fluid.xyz", argon())
    output = tmp_path / "relaxed.xyz"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    writes = []

    def full_at_the_end(part, path):
        if not writes:
            writes.append(path)
            raise OSError(28, "No space left on device")
        return real(part, path)

    real = Path.replace
    monkeypatch.setattr(Path, "replace", full_at_the_end)
    code, error = pointedge(
        "relax", tmp_path / "fluid.xyz", "--model", MODEL, "--output", output, "--steps", 3
    )
    assert code == 2
    assert f"{output} could not be written (No space left on device); the last structure" in error
    (rescued,) = (tmp_path / "temporary").rglob("relaxed.xyz")
    assert str(rescued) in error
    assert len(ase.io.read(rescued)) == 32


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root cannot write into")
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", MODEL, "FRAMES", "--json", f"{CLOSED}/out.json"),
        ("evaluate", MODEL, "FRAMES", "--plot", f"{CLOSED}/out.png"),
        ("audit", MODEL, "FRAMES", "--json", f"{CLOSED}/out.json"),
        ("audit", MODEL, "FRAMES", "--report", f"{CLOSED}/out.html"),
        ("predict", MODEL, "FRAMES", f"{CLOSED}/out.xyz"),
        ("relax", "FRAMES", "--model", MODEL, "--output", f"{CLOSED}/out.xyz"),
        ("md", "FRAMES", "--model", MODEL, "--output", f"{CLOSED}/out"),
        ("md", "FRAMES", "--model", MODEL, "--output", "FRAMES/out"),
        ("convert", "model.ckpt", f"{CLOSED}/out.safetensors"),
        ("export", "MINE", f"{CLOSED}/out.ckpt", "--to", "metatrain"),
        ("distill-auxiliary", "MINE", "--output", f"{CLOSED}/out.safetensors"),
        (
            "fit-uncertainty",
            "MINE",
            "FRAMES",
            "--validation",
            "FRAMES",
            "--output",
            f"{CLOSED}/o.safetensors",
        ),
        ("irreps", "mace-water", "FRAMES", "--output", f"{CLOSED}/out"),
    ],
    ids=lambda command: " ".join((command[0], command[-1])),
)
def test_a_closed_folder_is_noticed_before_anything_is_computed(
    pointedge, frames, tmp_path, command
):
    mine = tmp_path / "mine.safetensors"
    if "MINE" in command:
        checkpoint.save(small_potential(), mine)
    words = [word.replace("FRAMES", str(frames)).replace("MINE", str(mine)) for word in command]
    code, error = pointedge(*words)
    assert code == 2
    assert error.count("\n") == 1
    assert "/proc/self/o" in error or f"{frames}/out" in error
    assert "Errno" not in error
    assert Counting.calls <= 1  # that dynamics can start is looked at first


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", STOPPED, "FRAMES", "--json", "out.json"),
        ("audit", STOPPED, "FRAMES", "--json", "out.json"),
        ("predict", STOPPED, "FRAMES", "out.xyz"),
    ],
    ids=lambda command: command[0],
)
def test_ctrl_c_is_one_line(pointedge, frames, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    code, error = pointedge(*(word.replace("FRAMES", str(frames)) for word in command))
    assert code == 130
    assert error == (
        "pointedge: stopped; files that were complete are kept; the same command can be given "
        "again.\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["frames.xyz"]


def test_ctrl_c_in_md_says_how_to_go_on(pointedge, frames, tmp_path):
    output = tmp_path / "run"
    code, error = pointedge("md", frames, "--model", STOPPED, "--output", output, "--interval", 1)
    assert code == 130
    assert error == (
        f"pointedge: stopped; the same command goes on from the last frame in {output}.\n"
    )


def test_a_trial_of_writing_leaves_what_is_there(tmp_path):
    (tmp_path / "a").write_text("old")
    check_writable(tmp_path / "a")
    check_writable(tmp_path / "b")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_two_who_write_one_file_each_write_a_whole_one(tmp_path):
    path, mine = tmp_path / "a", tmp_path / "a.partial"
    mine.write_text("the user's")
    with replacing(path) as first:
        first.write(b"first")
        check_writable(path)
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert mine.read_text() == "the user's"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.partial"]


def test_of_a_link_what_it_points_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in (b"first", b"second"):
        check_writable(link)
        with replacing(link, keep=tmp_path / "last") as file:
            file.write(text)
    assert link.is_symlink()
    assert target.read_text() == "second"
    assert (tmp_path / "last").read_text() == "first"
    assert list((tmp_path / "elsewhere").iterdir()) == [target]
