"""The embedded model's training: passes equal open_clip's, losses know their positives, runs can be continued."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atlas.errors import Refused
from atlas.mini import batches, checkpoints, losses, neurons, passes, train
from atlas.mini.matrices import Matrices
from atlas.model.clip import Clip

pytest.importorskip("wordfreq")


def test_the_training_passes_are_open_clips_own() -> None:
    clip = Clip("mini")
    tokens = clip.tokenizer(["a cat", "the word dog is a longer text than the other"])
    pixels = passes.normalise(torch.randint(0, 256, (3, 96, 96, 3), dtype=torch.uint8))
    with torch.no_grad():
        embedding, neurons = passes.see(clip.model.visual, pixels)
        assert torch.allclose(embedding, clip.model.encode_image(pixels), atol=1e-5)
        assert torch.allclose(passes.say(clip.model, tokens), clip.model.encode_text(tokens), atol=1e-4)
    assert neurons.shape == (3, clip.neurons)
    assert (neurons >= 0).all()
    assert embedding.shape == (3, 256)
    many = clip.tokenizer(["a cat", "the word dog is a longer text than the other", "x y z"] * 50)
    with torch.no_grad():  # in groups by length
        assert torch.allclose(passes.say(clip.model, many), clip.model.encode_text(many), atol=1e-4)


def test_muon_moves_the_kernels_themselves() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    before = [p.detach().clone() for p in net.parameters()]
    optimiser = Matrices(list(net.named_parameters()), 0.1)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimiser.step(0.1)
    assert all((b != a.detach()).any() for b, a in zip(before[:1], list(net.parameters())[:1], strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_losses_know_their_positives() -> None:
    paired, mixed = torch.eye(2).repeat_interleave(2, 0), torch.eye(2).repeat(2, 1)
    matching = torch.tensor([[9.0, 0, 0], [0, 9, 0]])  # rows find their columns, and columns their rows
    assert losses.both_ways(matching, matching / 9) < 0.01
    towards = torch.tensor([[9.0, 0, 0], [9.5, 9, 0]])  # the second row's column is found by it, and not the first's
    assert losses.both_ways(towards, matching / 9) == losses.both_ways(towards.T, matching.T / 9) > 0.4
    assert losses.soft_cross_entropy(matching, torch.zeros(2, 3)) == 0  # no row has a positive: no division by zero
    assert losses.relational(paired, paired) < 1e-6 < losses.relational(mixed, paired)


def test_the_sparse_penalty_is_the_root_of_how_many_neurons_are_in_use() -> None:
    rows = torch.zeros(3, 64)
    rows[0, 0], rows[1, :16], rows[2] = 5, 2, 1
    assert [float(losses.hoyer(row[None])) for row in rows] == pytest.approx([1, 4, 8])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--hours", "0"], "--hours takes a number above 0, got 0.0"),
        (["--hours", "nan"], "--hours takes a number above 0, got nan"),
        (["--batch", "2"], "--batch takes 32 or more, got 2"),
        (["--start", "none.safetensors"], "none.safetensors is missing"),
        (["--run", "file"], "cannot write in file"),
        (["--weights", "file/mini.safetensors"], "cannot write in file"),
        (["--corpus", "file"], "file cannot hold the corpus"),
        (["--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_would_fail_after_hours_is_refused_before(asked, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["train", *asked])
    assert train.main() == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_a_folder_that_nothing_can_be_written_in_is_refused_before(tmp_path, monkeypatch, capsys) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(train.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(sys, "argv", ["train", "--run", str(tmp_path / "run")])
    assert train.main() == 1
    assert capsys.readouterr().err == f"train: cannot write in {tmp_path / 'run'}: Permission denied\n"


def test_a_checkpoint_that_cannot_be_taken_up_or_written_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "checkpoint.pt"
    damaged.write_bytes(b"PK\3\4 cut short")
    with pytest.raises(Refused, match=r"is damaged, or of another corpus or recipe .*: delete it to start again"):
        checkpoints.checkpoint(damaged).__enter__()
    checkpoints.write_checkpoint({"step": 3}, damaged)
    with checkpoints.checkpoint(damaged) as state:
        assert state == {"step": 3}
    with pytest.raises(Refused, match="of another corpus"), checkpoints.checkpoint(damaged) as state:
        state["elapsed"]
    with pytest.raises(Refused, match="cannot write"):
        checkpoints.write_checkpoint({}, tmp_path / "none" / "checkpoint.pt")


@pytest.mark.parametrize("still", [0, 1, 3])
def test_stages_that_stand_still_get_no_gradient_and_keep_their_statistics(still: int) -> None:
    model = Clip("mini").model.requires_grad_(True)
    passes.train_mode(model, still)
    before = {name: value.clone() for name, value in model.visual.named_buffers()}
    pixels = passes.normalise(torch.randint(0, 256, (4, 96, 96, 3), dtype=torch.uint8))
    passes.see(model.visual, pixels, still)[0].square().mean().backward()
    fixed = ("conv1", "conv2", "conv3", "bn1", "bn2", "bn3", "layer1", "layer2", "layer3")[: 6 + still if still else 0]
    for name, weight in model.visual.named_parameters():
        assert (weight.grad is None) == (name.split(".")[0] in fixed), name
    for name, value in model.visual.named_buffers():
        assert torch.equal(value, before[name]) == (name.split(".")[0] in fixed), name


def test_a_picture_carries_its_name_and_its_keyword() -> None:
    keys = np.array([["cat", "pet"], ["dog", ""], ["fox", "pet"], ["pet", ""]])
    assert neurons.carried(keys, np.array(["cat", "dog", "pet"])).tolist() == [
        [1, 0, 1],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 1],
    ]
    assert neurons.shared(keys).tolist() == [[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]]


def test_drawings_and_writings_of_a_concept_come_to_share_neurons() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(16, 30, generator=generator)  # eight drawings, and eight writings that look otherwise
    same, written = torch.eye(8).repeat(2, 2), torch.arange(16) >= 8
    layer, contrast = torch.nn.Linear(30, 200), neurons.NeuronContrast(200)
    torch.nn.init.normal_(layer.weight, generator=generator)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(150):
        activations = layer(inputs + 0.05 * torch.randn(16, 30, generator=generator)).relu()
        optimiser.zero_grad()
        contrast.loss(activations, same, written).backward()
        optimiser.step()
    with torch.no_grad():
        features = torch.nn.functional.normalize(contrast.features(layer(inputs).relu(), written), dim=1)
    likeness = features[:8] @ features[8:].T
    assert (likeness.argmax(1) == torch.arange(8)).all()
    assert likeness.diagonal().min() > 2 * (likeness - likeness.diagonal().diag()).max()


def test_what_a_concept_has_of_its_own_counts_and_not_what_all_pictures_have() -> None:
    contrast, written = neurons.NeuronContrast(3), torch.zeros(8, dtype=torch.bool)
    activations = torch.tensor([[5.0, 3, 0], [5, 0, 1], [5, 0, 1], [5, 0, 1]] * 2)  # the first neuron is always active
    contrast.loss(activations, torch.eye(8), written)
    features = contrast.features(activations, written)
    assert (features[:, 0] == 0).all()
    assert features[0, 1] > 0
    assert (features >= 0).all()


def test_the_learning_rate_falls_to_nothing_at_the_end_of_both_parts() -> None:
    run = object.__new__(train.Trainer)
    run.budget, run.step, run.start = 100.0, 10_000, {}
    rates = []
    for elapsed in (10, 50, 59.9, 62, 65, 99):
        run.elapsed = float(elapsed)
        rates.append(run.rate())
        assert (run.last is None) == (elapsed < 100 * (1 - train.LAST))
    assert rates[0] == train.LEARNING_RATE
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] < 0.02 * train.LEARNING_RATE
    assert rates[3] > rates[4] > rates[5] > rates[2] / 10
    assert rates[5] < 0.05 * train.LAST_RATE


def test_several_batches_become_one() -> None:
    def batch(count: int, word: str) -> batches.Batch:
        keys, pixels = np.array([[word, ""]] * count), torch.zeros(count, 4, 4, 3, dtype=torch.uint8)
        flags = torch.ones(count, dtype=torch.bool)
        known, letters, inks = torch.ones(count, 6), torch.ones(count, 8), torch.zeros(count)
        return batches.Batch(pixels, [word] * count, keys, known, letters, flags, flags, inks)

    joined = batches.joined_batches([batch(2, "dog"), batch(1, "caterpillar")])
    assert joined.captions == joined.keys[:, 0].tolist() == ["dog", "dog", "caterpillar"]
    assert {len(part) for part in joined} == {3}
