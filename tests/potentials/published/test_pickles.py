"""Files that are damaged or harmful: one clear error each, and nothing of them runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from pointedge.potentials.pet import published
from pointedge.potentials.pet.published import PublishedError, is_published
from pointedge.potentials.pet.published.pickles import StoredTensor, opened
from pointedge.potentials.pet.published.writing import save
from pointedge.potentials.potential import Potential

from ...networks import tiny_pet
from .cases import CASES, unpacked

NAME = "model-v16_trainer-v15.ckpt.gz"


class Writing:
    """Writes a file when it is unpickled by anything that trusts it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(path, program: bytes):
    """A file of torch.save's layout around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", program)
    return path


def test_harmful_pickle_is_refused_before_anything_runs(tmp_path):
    proof = tmp_path / "written"
    harm = Writing(builtins.open, str(proof), "w")
    pickle.loads(pickle.dumps(harm)).close()
    assert proof.exists()  # it does what the reader must not let happen
    proof.unlink()
    torch.save({"architecture_name": "pet", "model_data": harm}, tmp_path / "a.ckpt")
    with pytest.raises(PublishedError, match=r"names (io|builtins|__builtin__|_io)\.open, which"):
        published.load(tmp_path / "a.ckpt")
    assert not proof.exists()


@pytest.mark.parametrize("function", [os.system, eval, getattr, __import__])
def test_other_names_are_refused(tmp_path, function):
    torch.save(OrderedDict(x=Writing(function, "1")), tmp_path / "a.ckpt")
    with pytest.raises(PublishedError, match=rf"names \w+\.{function.__name__}, which no check"):
        published.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "name", ["OrderedDict.fromkeys", "OrderedDict.__init__.__globals__", "namedtuple"]
)
def test_attributes_of_what_is_allowed_are_refused(tmp_path, name):
    text = name.encode()
    program = b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(text)]) + text + b"\x93."
    with pytest.raises(PublishedError, match=f"names collections.{name}"):
        published.load(archive(tmp_path / "a.ckpt", program))


def test_classes_of_metatrain_become_stubs_whatever_they_are_called(tmp_path):
    program = b"\x80\x02cmetatrain.os\nsystem\nX\x05\x00\x00\x00false\x85R."
    with opened(archive(tmp_path / "a.ckpt", program)) as stub:
        assert type(stub).__mro__[1].__name__ == "Stub"


def test_a_stub_that_was_spoilt_is_not_seen_again(tmp_path):
    program = b"\x80\x02cmetatrain\nA\nN}X\x05\x00\x00\x00stateK\x07s\x86b."
    with (
        pytest.raises(PublishedError, match="is damaged"),
        opened(archive(tmp_path / "a", program)),
    ):
        pass
    torch.save([1], tmp_path / "b")
    with opened(tmp_path / "b") as saved:
        assert saved == [1]


def test_tensors_are_read_when_they_are_asked_for(tmp_path):
    table = torch.arange(12.0).reshape(3, 4).T
    torch.save({"a": table, "b": torch.tensor([True, False])}, tmp_path / "a")
    with opened(tmp_path / "a") as saved:
        assert isinstance(saved["a"], StoredTensor)
        assert torch.equal(saved["a"].read(), table)
        assert saved["b"].read().tolist() == [True, False]


@pytest.mark.parametrize(
    ("size", "offset"), [((7,), 0), ((2,), 5), ((10**6, 10**6), 0), ((-2,), 0), (("x",), 0)]
)
def test_tensors_beyond_their_bytes_are_refused(tmp_path, size, offset):
    torch.save({"a": torch.arange(6.0)}, tmp_path / "a")
    with opened(tmp_path / "a") as saved:
        good = saved["a"]
        bad = StoredTensor(good.archive, good.name, good.dtype, offset, size, (1,) * len(size))
        with pytest.raises(PublishedError, match="damaged"):
            bad.read()


def test_every_truncation_is_refused(tmp_path):
    whole = unpacked(NAME, tmp_path).read_bytes()
    for part in (9, 100, 5_000, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.ckpt"
        path.write_bytes(whole[:part])
        with pytest.raises(PublishedError, match="may be truncated"):
            published.load(path)


def test_changed_bytes_are_noticed(tmp_path):
    path = unpacked(NAME, tmp_path)
    whole = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as file, opened(path) as saved:
        weight = saved["best_model_state_dict"]["backend.edge_embedder.weight"].name
        program = file.namelist()[0]
        starts = {info.filename: info.header_offset for info in file.infolist()}
    assert program.endswith("data.pkl")
    for name in (weight, program):
        start = starts[name]
        lengths = (int.from_bytes(whole[start + k : start + k + 2], "little") for k in (26, 28))
        place = start + 30 + sum(lengths)  # after the local header
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(PublishedError, match="damaged"):
            published.load(path)


@pytest.mark.parametrize("number", [10**6, 2**31 - 1, 2**32 - 1])
def test_places_of_memory_that_a_pickle_has_no_use_for(tmp_path, number):
    """Unpicklers have a table up to the largest place: 2³¹ would be 32 GB of it."""
    program = b"\x80\x02Nr" + number.to_bytes(4, "little") + b"."
    with pytest.raises(PublishedError, match=f"it names place {number} of its memory"):
        published.load(archive(tmp_path / "a.ckpt", program))


def test_directories_that_are_no_text(tmp_path):
    data = bytearray(unpacked(NAME, tmp_path).read_bytes())
    place = data.rindex(b"PK\x01\x02")  # the last entry of the directory
    data[place + 9] |= 8  # its name is UTF-8
    data[place + 46] = 0xE1
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(PublishedError, match=r"a\.ckpt cannot be opened as a file of torch\.save"):
        published.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    network = tiny_pet(0, species=(1, 8), cutoff=3.0)
    network.edge_embedder.weight.data[0, 0] = value
    save(Potential(network), tmp_path / "a.ckpt")
    with pytest.raises(PublishedError, match=r"values of network\.edge_embedder\.weight are not"):
        published.load(tmp_path / "a.ckpt")


def test_programs_that_end_early(tmp_path):
    with pytest.raises(PublishedError, match=r"is damaged \(ValueError: pickle exh"):
        published.load(archive(tmp_path / "a.ckpt", b"\x80\x02}"))


def test_files_of_other_kinds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("readme.txt", "no model")
    with pytest.raises(PublishedError, match=r"not one of torch.save \(no data.pkl\)"):
        published.load(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as file:
        file.writestr("b/constants.pkl", b"")
        file.writestr("b/data.pkl", b"")
    with pytest.raises(PublishedError, match=r"is an exported .* give the checkpoint"):
        published.load(tmp_path / "b.pt")
    (tmp_path / "c").write_bytes(pickle.dumps({"architecture_name": "pet"}))
    assert is_published(tmp_path / "c")
    with pytest.raises(PublishedError, match=r"older than torch 1\.6"):
        published.load(tmp_path / "c")
    torch.save([1, 2], tmp_path / "d")
    with pytest.raises(PublishedError, match="it is no checkpoint of metatrain"):
        published.load(tmp_path / "d")


def test_recognised_by_content(tmp_path):
    name = CASES / "case1_default_small_f64.ckpt"
    (tmp_path / "model.safetensors").write_bytes(name.read_bytes())
    assert is_published(tmp_path / "model.safetensors")
    for content in (b"", b"\x80\x02\0\0\0\0\0\0{}", b"12345678{", b"# comment"):
        (tmp_path / "other").write_bytes(content)
        assert not is_published(tmp_path / "other")
    assert not is_published(tmp_path)
