"""The registry: complete entries, local files first, checked and atomic downloads, test splits."""

import hashlib
import os
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.potentials.datasets import registry as registry_module
from pointedge.potentials.datasets.converters import CONVERTERS
from pointedge.potentials.datasets.fetch import check, fetch
from pointedge.potentials.datasets.hashes import GEOMETRY, data_hash, frame_hash
from pointedge.potentials.datasets.registry import (
    DataFile,
    DataSet,
    data_set,
    known_test_frames,
    registry,
)
from pointedge.potentials.training.reading import find_file, refuse_known_tests


def test_every_entry_says_whose_it_is_and_how_to_get_it():
    names = {"water", "mno", "hea", "hea25", "coll", "hme21", "qm9", "methane", "3bpa", "acac"}
    assert names | {"nio-spin"} <= set(registry())
    for entry in registry().values():
        assert all((entry.title, entry.method, entry.origin, entry.licence, entry.citation))
        for file in entry.files.values():
            assert bool(file.by_hand) != bool(file.sources), "one way to get it"
            assert file.untested == bool(file.sources), "no download was tried"
            assert file.converter is None or file.converter in CONVERTERS
            assert len(file.options.get("splits", file.sources)) == len(file.sources)
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert all(re.fullmatch("(md5|sha256):[0-9a-f]+", x) for x in file.checksums.values())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A set of one file, made of two sources in a folder; and the frames that it will hold."""
    origin = tmp_path / "origin"
    origin.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        atoms = Atoms("H2", rng.normal(size=(2, 3)), cell=[50] * 3)
        atoms.info["energy"] = -1.0
        atoms.arrays["forces"] = rng.normal(size=(2, 3))
        ase.io.write(origin / f"{name}.xyz", atoms, format="extxyz")
    digest = hashlib.sha256((origin / "a.xyz").read_bytes()).hexdigest()
    handler = partial(Quiet, directory=str(origin))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    file = {
        "base": f"http://127.0.0.1:{server.server_port}/",
        "sources": ["a.xyz", "b.xyz"],
        "checksums": {"a.xyz": f"sha256:{digest}"},
        "converter": "extxyz",
        "options": {"splits": ["train", "test"]},
        "untested": True,
    }
    words = dict.fromkeys(("title", "method", "origin", "licence", "citation"), "toy")

    def install(**changes):
        entry = DataSet(files={"toy/frames.xyz": DataFile(**{**file, **changes})}, **words)
        monkeypatch.setattr(registry_module, "registry", lambda: {"toy": entry})

    install()
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("POINTEDGE_DATA", raising=False)
    yield install
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetch_converts_and_then_finds_what_is_here(toy, tmp_path):
    lines = []
    (path,) = fetch("toy", tmp_path / "cache", lines.append)
    assert "has not been tried" in lines[0]
    frames = ase.io.read(path, ":")
    assert [a.info["split"] for a in frames] == ["train", "test"]
    assert frames[0].info["REF_energy"] == -1.0
    assert frames[0].arrays["REF_forces"].shape == (2, 3)
    assert not frames[0].cell.any(), "the box of a molecule is not a cell"
    assert list(path.parent.iterdir()) == [path]
    assert fetch("toy", tmp_path / "elsewhere", lines.append) == [path]
    assert find_file("toy/frames.xyz", tmp_path) == path


def test_a_wrong_checksum_leaves_nothing_behind(toy, tmp_path):
    toy(checksums={"b.xyz": "md5:" + 32 * "0"})
    with pytest.raises(ValueError, match=r"b\.xyz has a wrong checksum"):
        fetch("toy", tmp_path / "cache", lambda line: None)
    assert not list(tmp_path.glob("cache/**/*.xyz"))


def test_files_here_are_checked_by_bytes_or_frames(toy, tmp_path):
    (path,) = fetch("toy", tmp_path / "cache", lambda line: None)
    content = data_hash(frame_hash(a) for a in ase.io.read(path, ":"))
    check(path, DataFile(sha256=64 * "0", content=content))
    check(path, DataFile(sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    toy(sha256=64 * "0", content=64 * "0")
    with pytest.raises(ValueError, match=r"another SHA-256 than the registry.*remove it"):
        fetch("toy", tmp_path / "cache", lambda line: None)


def test_an_origin_that_has_grown_is_told_and_kept(toy, tmp_path):
    """Once as it comes, and again when it is here."""
    toy(sha256=64 * "0", content=64 * "0", frames=1)
    for _ in range(2):
        lines = []
        fetch("toy", tmp_path / "cache", lines.append)
        assert "2 frames; these are not just the 1 that" in lines[-1]


def test_unknown_names_and_what_is_to_be_fetched_by_hand(toy, tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'tog'; did you mean 'toy'"):
        data_set("tog")
    with pytest.raises(FileNotFoundError, match="`pointedge data fetch toy` brings it"):
        find_file("toy/frames.xyz", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"did you mean 'toy/frames\.xyz' of the registry"):
        find_file("toy/frame.xyz", tmp_path)
    toy(sources=[], by_hand="ask the authors")
    with pytest.raises(ValueError, match="fetched by hand: ask the authors"):
        fetch("toy", tmp_path / "cache")


def test_commands(monkeypatch, tmp_path):
    monkeypatch.setenv("POINTEDGE_DATA", str(tmp_path))
    (tmp_path / "water").mkdir()
    (tmp_path / "water" / "train.xyz").write_text("")
    listed = CliRunner().invoke(app, ["data", "list"]).output
    assert "    water/train.xyz: 320 frames, here;" in listed
    assert "LGPL-3.0" in listed
    found = CliRunner().invoke(app, ["data", "path", "water"])
    assert found.output == f"{tmp_path / 'water' / 'train.xyz'}\n"
    missing = CliRunner().invoke(app, ["data", "path", "acac"])
    assert "molecules/acac.xyz is not on this machine" in str(missing.exception)
    broken = CliRunner().invoke(app, ["data", "fetch", "water"])
    assert "another SHA-256" in str(broken.exception)


def test_training_on_a_known_test_split_is_refused():
    some = next(iter(known_test_frames()))
    with pytest.raises(ValueError, match=r"1 training frames are of a known test split: frame 1"):
        refuse_known_tests(["0" * 16, some], known_test_frames())
    with pytest.raises(ValueError, match="frame 0 is in a"):
        refuse_known_tests([some + "01234567"], known_test_frames())
    refuse_known_tests(["0" * 16], known_test_frames())


def test_known_test_frames_are_those_of_our_own_mno():
    """Copies too: without moments, with those of another name, with the usual charge, rounded."""
    for atoms in ase.io.iread(find_file("mno/frames.xyz", Path())):
        copy = Atoms(atoms.numbers, np.round(atoms.positions, 7), cell=atoms.cell, pbc=True)
        copy.info |= {"charge": 0.0, "spin": 1}
        for one in (atoms, copy):
            known = frame_hash(one)[:GEOMETRY] in known_test_frames()
            assert known == (atoms.info["split"] == "test")


NEEDS_DATA = pytest.mark.skipif("POINTEDGE_DATA" not in os.environ, reason="needs POINTEDGE_DATA")


@NEEDS_DATA
def test_local_files_are_those_of_the_registry():
    for entry in registry().values():
        for file, one in entry.files.items():
            path = Path(os.environ["POINTEDGE_DATA"]) / file
            if path.is_file() and one.sha256 is not None:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == one.sha256, file


@NEEDS_DATA
@pytest.mark.parametrize(
    ("file", "part", "tests"),
    [("hea/test.xyz", "::40", True), ("hea/train.xyz", "::1000", False)],
)
def test_known_test_frames_are_found_in_the_files(file, part, tests):
    frames = ase.io.read(Path(os.environ["POINTEDGE_DATA"]) / file, part)
    assert {frame_hash(a)[:GEOMETRY] in known_test_frames() for a in frames} == {tests}
