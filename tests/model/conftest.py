"""Small generated corpora and checkpoints, made once a session."""

import pytest
import torch

from model.checkpoint import Checkpoint, save_checkpoint
from model.preprocess import Preprocessing
from model.scoring import Scoring
from model.siamese import SiameseNet
from model.synthetic import write_dataset


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Six generated signers, four genuine signatures and four forgeries each."""
    folder = tmp_path_factory.mktemp("corpus")
    write_dataset(folder, signers=6, genuine=4, forgeries=4, seed=11)
    return folder


@pytest.fixture(scope="session")
def network():
    """A small network with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SiameseNet("test_mambaout").eval()


@pytest.fixture(scope="session")
def checkpoint(network):
    """A checkpoint of that network, not yet saved."""
    return Checkpoint(
        weights=network.state_dict(),
        backbone="test_mambaout",
        size=64,
        threshold=0.5,
        preprocessing=Preprocessing(height=32, width=64),
        scoring=Scoring(thresholds={1: 0.5, 5: 0.4}, spread_weight=0.5, population_spread=0.2),
        provenance={"train_writers": ["c/1"]},
    )


@pytest.fixture(scope="session")
def checkpoint_file(checkpoint, tmp_path_factory):
    """The same as a file."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    save_checkpoint(path, checkpoint)
    return path
