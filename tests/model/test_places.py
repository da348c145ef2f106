"""The head that keeps places apart, in the network and in its checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.checkpoint import begin_with, build_model, load_checkpoint, save_checkpoint
from model.closed_form import complete
from model.corpora import choose_writers, load_parts
from model.errors import CheckpointError
from model.places import Places
from model.preprocess import Preprocessing, from_grey
from model.siamese import EMBEDDING_SIZE, SiameseNet
from model.synthetic import genuine, make_signer


def network(head):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SiameseNet("test_mambaout", head=head).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 1, 64, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module", params=[32, 128], ids=["coarse", "fine"])
def parts(request, corpus, tmp_path_factory):
    split = choose_writers(corpus, seed=1, validation=0.34, test=0.17)
    how = Preprocessing(height=request.param, width=2 * request.param)
    return load_parts(split, how, tmp_path_factory.mktemp("cache"))


def test_a_change_in_one_cell_moves_the_numbers_of_that_cell_alone():
    head = Places(cells=2 * 4, channels=5, kept=3).eval()
    features = torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    changed = features.clone()
    changed[0, 1, 2] = changed[0, 1, 2].flip(0)
    before, after = (head.kept(head.norm(x)).flatten() for x in (features, changed))
    moved = (before != after).nonzero().flatten()
    assert moved.tolist() == [18, 19, 20]  # of cell 1 * 4 + 2
    torch.testing.assert_close(torch.linalg.vector_norm(head(features), dim=1), torch.ones(1))


@pytest.mark.parametrize("head", ["places", "views", "outlines"])
def test_embeddings_are_unit_vectors_of_one_channel_or_three(head, images):
    net = network(head)
    with torch.no_grad():
        found = net.embed(images)
        three = net.embed(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), torch.ones(3))
    assert torch.equal(found, three)
    assert found.shape[1] == (net.learnt_size if head == "places" else EMBEDDING_SIZE)
    assert net.learnt_size == EMBEDDING_SIZE + 8 * 16 * 8 + 4 * 8 * 24


def test_a_network_without_places_is_the_seeds():
    names = {name.split(".")[0] for name in network("seed").state_dict()}
    assert names == {"backbone", "head"}


@pytest.mark.parametrize("head", ["places", "views", "outlines"])
def test_the_head_travels_in_the_checkpoint(head, checkpoint, images, tmp_path):
    net = network(head)
    written = replace(checkpoint, weights=net.state_dict(), head=head)
    save_checkpoint(tmp_path / "made.pt", written)
    loaded = load_checkpoint(tmp_path / "made.pt")
    assert loaded.head == head
    with torch.no_grad():
        assert torch.equal(build_model(loaded).embed(images), net.embed(images))


def test_the_network_sees_the_same_of_a_canvas_however_fine():
    net = network("places")
    rng = np.random.default_rng(2)
    drawn = genuine(make_signer(rng), rng)
    with torch.no_grad():
        coarse, fine = (
            net.embed(
                torch.from_numpy(from_grey(drawn, Preprocessing(height=h, width=2 * h)))[None]
            )
            for h in (64, 256)
        )
    torch.testing.assert_close(coarse, fine, atol=2e-3, rtol=0)  # pixels are rounded to 1/255


def test_a_head_this_release_does_not_know_is_refused(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "odd.pt", replace(checkpoint, head="two"))
    with pytest.raises(CheckpointError, match="head two"):
        load_checkpoint(tmp_path / "odd.pt")


def test_a_head_may_be_added_to_the_weights_a_run_begins_with(checkpoint):
    net = network("places")
    own = {name: value.clone() for name, value in net.places.state_dict().items()}
    begin_with(net, checkpoint)
    assert all(torch.equal(value, own[name]) for name, value in net.places.state_dict().items())
    for name, value in checkpoint.weights.items():
        assert torch.equal(net.state_dict()[name], value), name


def test_what_is_fitted_completes_a_trained_network(parts):
    net = network("places")
    before = net.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    complete(net, parts.train, torch.device("cpu"), np.random.default_rng(1))
    for name, value in before.items():
        assert torch.equal(net.state_dict()[name], value), name
    assert net.views is not None
    assert net.reduced is not None
    assert (net.outlines is not None) == (parts.train.images.how.height == 128)
    images = torch.from_numpy(parts.train.images.images(np.arange(8)))
    with torch.no_grad():
        joint, found = net.joint(images), net.embed(images)
    assert found.shape == (8, EMBEDDING_SIZE)
    # Few signatures lie within 512 directions, so that none of their distances is lost.
    torch.testing.assert_close(
        torch.cdist(found, found), torch.cdist(joint, joint), atol=1e-3, rtol=0
    )
