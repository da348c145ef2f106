"""A checkpoint says what it is, a seed checkpoint loads, and a bad one says why it does not."""

import os
import pickle
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from model.backbone import build_backbone, choose_backbone, import_timm
from model.checkpoint import build_model, load_checkpoint, save_checkpoint
from model.errors import (
    CheckpointIsTorchScript,
    CheckpointKeyMissing,
    CheckpointMismatch,
    CheckpointNotFound,
    CheckpointNotPinned,
    CheckpointUnreadable,
    ModelError,
)
from model.preprocess import Preprocessing
from model.scoring import scores
from model.siamese import SiameseNet


class SeedBackbone(nn.Module):
    """The notebook's module, written out from the description of its checkpoint."""

    def __init__(self, name):
        super().__init__()
        self.encoder = import_timm().create_model(name, num_classes=0, global_pool="avg")


class SeedNet(nn.Module):
    def __init__(self, name, width):
        super().__init__()
        self.backbone = SeedBackbone(name)
        self.head = nn.Sequential(
            nn.Linear(width, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(512, 512),
        )


@pytest.fixture
def seed_file(tmp_path):
    path = tmp_path / "seed.pt"
    torch.save(
        {
            "model": SeedNet("mambaout_tiny", 2304).state_dict(),
            "backbone": "mambaout_tiny",
            "size": 224,
            "threshold": 0.61,
        },
        path,
    )
    return path


def test_a_seed_checkpoint_loads_strictly_and_keeps_the_seeds_rule(seed_file):
    checkpoint = load_checkpoint(seed_file)
    assert checkpoint.preprocessing == Preprocessing(name="seed_grey", height=224, width=224)
    assert checkpoint.scoring.rule == "nearest"
    assert checkpoint.scoring.threshold_for(5) == checkpoint.threshold == 0.61
    model = build_model(checkpoint)
    saved = torch.load(seed_file, weights_only=True)["model"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name]), name


def test_what_is_saved_is_what_is_loaded(checkpoint, checkpoint_file):
    loaded = load_checkpoint(checkpoint_file)
    assert loaded.preprocessing == checkpoint.preprocessing
    assert loaded.scoring == checkpoint.scoring
    assert loaded.provenance == checkpoint.provenance
    assert re.fullmatch("[0-9a-f]{64}", loaded.sha256)
    content = torch.load(checkpoint_file, weights_only=True)
    assert {"model", "backbone", "size", "threshold"} <= content.keys()


def banded(checkpoint, cohort):
    scoring = replace(
        checkpoint.scoring,
        accept={"0.1%": {1: 0.1}, "1%": {1: 0.2}, "5%": {1: 0.3}},
        reject={1: 0.7},
        cohort_weight=0.5,
        cohort_nearest=7,
        cohort=cohort,
    )
    return replace(checkpoint, scoring=scoring)


def test_operating_points_and_cohort_travel_and_the_cohort_in_half_precision(checkpoint, tmp_path):
    cohort = np.random.default_rng(1).normal(size=(20, 512)).astype(np.float32)
    whole = banded(checkpoint, cohort)
    save_checkpoint(tmp_path / "a.pt", whole)
    loaded = load_checkpoint(tmp_path / "a.pt").scoring
    assert loaded == whole.scoring
    assert loaded.cohort.dtype == np.float16
    np.testing.assert_array_equal(loaded.cohort, cohort.astype(np.float16))
    assert torch.load(tmp_path / "a.pt", weights_only=True)["cohort"].dtype == torch.float16


def test_a_rounded_cohort_gives_the_same_scores_after_loading(checkpoint, tmp_path):
    rng = np.random.default_rng(2)
    whole = banded(checkpoint, rng.normal(size=(20, 512)).astype(np.float16))
    save_checkpoint(tmp_path / "a.pt", whole)
    questioned, references = (rng.normal(size=(n, 512)).astype(np.float32) for n in (3, 4))
    before = scores(questioned, references, whole.scoring)
    after = scores(questioned, references, load_checkpoint(tmp_path / "a.pt").scoring)
    np.testing.assert_array_equal(before, after)


def test_a_checkpoint_of_an_earlier_release_has_neither(checkpoint_file, tmp_path):
    rule = {"thresholds": {1: 0.4, 5: 0.3}, "spread_weight": 0.75, "population_spread": 0.5}
    old = load_checkpoint(changed(checkpoint_file, tmp_path, scoring={**rule, "prior": 2.0}))
    assert (old.scoring.accept, old.scoring.reject, old.scoring.cohort) == ({}, {}, None)
    assert old.scoring.cohort_weight == 0.0
    assert old.scoring.band(5, "1%") == (0.3, 0.3)


def test_half_precision_halves_the_file_and_loads_as_float32(checkpoint, checkpoint_file, tmp_path):
    path = tmp_path / "half.pt"
    save_checkpoint(path, checkpoint, half=True)
    assert path.stat().st_size < 0.6 * checkpoint_file.stat().st_size
    model = build_model(load_checkpoint(path))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_identity_is_of_the_content(checkpoint, tmp_path):
    one = save_checkpoint(tmp_path / "a.pt", checkpoint)
    other = save_checkpoint(tmp_path / "b.pt", replace(checkpoint, threshold=0.6))
    assert one == load_checkpoint(tmp_path / "a.pt").sha256 != other


def changed(file, tmp_path, **changes):
    content = torch.load(file, weights_only=True)
    content.update(changes)
    path = tmp_path / "changed.pt"
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("key", ["model", "backbone", "size", "threshold"])
def test_a_missing_key_is_named(checkpoint_file, tmp_path, key):
    with pytest.raises(CheckpointKeyMissing, match=f"no key '{key}'"):
        load_checkpoint(changed(checkpoint_file, tmp_path, **{key: None}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": "high"},
        {"threshold": float("nan")},
        {"size": "big"},
        {"preprocessing": {"name": "strokes", "version": 99}},
        {"scoring": {"weight": 1}},
        {"scoring": {"thresholds": {1: 0.5}, "cohort_weight": 0.5}},
        {"scoring": {"thresholds": {1: None}}},
        {"cohort": [[1.0]]},
        {"cohort": torch.tensor([1.0])},
        {"cohort": torch.tensor([[float("nan")]])},
        {"format": 7},
    ],
)
def test_a_wrong_value_is_an_error_of_its_own(checkpoint_file, tmp_path, wrong):
    with pytest.raises(ModelError) as caught:
        load_checkpoint(changed(checkpoint_file, tmp_path, **wrong))
    assert caught.value.code in ("checkpoint_error", "preprocessing_error")


def test_a_torchscript_file_is_recognised(tmp_path):
    path = tmp_path / "script.pt"
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointIsTorchScript, match="TorchScript archive"):
        load_checkpoint(path)


def test_a_truncated_file_a_text_and_a_missing_one_say_so(checkpoint_file, tmp_path):
    data = checkpoint_file.read_bytes()
    for name, content in {
        "cut.pt": data[: len(data) // 2],
        "text.pt": b"hello",
        "0.pt": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointUnreadable):
            load_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointNotFound, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


@dataclass
class Evil:
    mark: str

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_code_in_a_checkpoint_is_not_run(checkpoint_file, tmp_path, form):
    path, mark = tmp_path / "evil.pt", tmp_path / "run"
    content = torch.load(checkpoint_file, weights_only=True) | {"provenance": Evil(str(mark))}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointUnreadable, match="beyond tensors and plain values"):
        load_checkpoint(path)
    assert not mark.exists()
    if form == "zip":  # the trap works where nobody looks
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_checkpoint_of_the_pinned_sha256_loads_and_any_other_is_refused(
    checkpoint_file, tmp_path
):
    pinned = load_checkpoint(checkpoint_file).sha256
    assert load_checkpoint(checkpoint_file, sha256=pinned).sha256 == pinned
    other = changed(checkpoint_file, tmp_path, threshold=1.9)
    with pytest.raises(CheckpointNotPinned, match=f"is not the checkpoint .* not {pinned}"):
        load_checkpoint(other, sha256=pinned)


def test_a_file_that_is_not_the_pinned_one_is_not_even_looked_into(tmp_path):
    path = tmp_path / "evil.pt"
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointNotPinned):
        load_checkpoint(path, sha256="0" * 64)


def test_weights_of_a_wrong_shape_or_name_are_a_mismatch(checkpoint):
    weights = dict(checkpoint.weights)
    weights["head.4.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointMismatch, match=r"head\.4\.weight"):
        build_model(replace(checkpoint, weights=weights))
    del weights["head.4.weight"]
    with pytest.raises(CheckpointMismatch):
        build_model(replace(checkpoint, weights=weights))


def test_an_interrupted_save_leaves_the_old_file_and_no_part(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "kept.pt"
    before = save_checkpoint(path, checkpoint)
    monkeypatch.setattr("model.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_checkpoint(path, replace(checkpoint, threshold=0.1))
    assert load_checkpoint(path).sha256 == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_backbones_tag_is_accepted_and_fall_backs_are_said_aloud():
    assert choose_backbone("mambaout_tiny.in1k").name == "mambaout_tiny"
    near = choose_backbone("mambaout_tinny")
    assert "mambaout" in near.name
    assert "mambaout_tinny" in near.notice
    last = choose_backbone("nothing_like_it")
    assert (last.name, "resnet18" in last.notice) == ("resnet18", True)


def test_without_a_network_pretrained_weights_are_missed_in_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, notices = build_backbone("test_mambaout", pretrained=True)
    assert len(notices) == 1
    assert "Starting from random ones" in notices[0]


def test_tiny_has_the_seeds_widths():
    model = SiameseNet()
    assert model.backbone.width == 2304
    assert [tuple(p.shape) for n, p in model.head.named_parameters() if n.endswith("weight")] == [
        (512, 2304),
        (512,),
        (512, 512),
    ]


def test_distances_are_between_unit_embeddings(network):
    images = torch.rand(3, 1, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        distances, e1, e2 = network(images, images.flip(0))
    torch.testing.assert_close(torch.linalg.vector_norm(e1, dim=1), torch.ones(3))
    torch.testing.assert_close(distances, torch.linalg.vector_norm(e1 - e2, dim=1))
    assert distances[1] == 0.0


def test_detail_takes_the_two_spare_channels_and_travels_in_the_checkpoint(checkpoint, tmp_path):
    how = Preprocessing(height=256, width=512, detail=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = SiameseNet("test_mambaout", detail=True, head="places")
    told = replace(
        checkpoint,
        weights=network.state_dict(),
        backbone="test_mambaout",
        preprocessing=how,
        head="places",
    )
    save_checkpoint(tmp_path / "told.pt", told)
    loaded = load_checkpoint(tmp_path / "told.pt")
    assert loaded.preprocessing == how
    image = torch.rand(1, 1, 256, 512, generator=torch.Generator().manual_seed(1)).round() * 2 - 1
    model = build_model(loaded)
    seen = model.see(image)
    plain = build_model(replace(loaded, preprocessing=replace(how, detail=False))).see(image)
    assert seen.shape == plain.shape == (1, 3, 64, 128)
    assert not torch.equal(seen[:, 1:], plain[:, 1:])
    with torch.no_grad():
        assert torch.equal(model.embed(image), network.eval().embed(image))


def test_coordinates_take_the_two_spare_channels_and_travel_in_the_checkpoint(checkpoint):
    how = replace(checkpoint.preprocessing, coordinates=True)
    told, untold = build_model(replace(checkpoint, preprocessing=how)), build_model(checkpoint)
    seen = []
    told.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    untold.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        told.embed(image)
        untold.embed(image)
    assert torch.equal(seen[0][:, :1], image)
    assert seen[0][0, 1, 0, [0, -1]].tolist() == [-1.0, 1.0]
    assert seen[0][0, 2, [0, -1], 0].tolist() == [-1.0, 1.0]
    assert torch.equal(seen[1], image.expand(-1, 3, -1, -1))
