"""Canvases: they begin as one colour, are drawn from coarse to fine, and no view of them holds for another."""

import pytest
import torch

from atlas.dream.canvas import Canvas

ABOUT = (0.8, 0.5, 0.3)
CPU = torch.device("cpu")


def canvas(k: int = 2, repeats: int = 3, seed: int = 0) -> Canvas:
    return Canvas(k, repeats, 32, ABOUT, CPU, seed)


def test_a_canvas_begins_as_its_colour() -> None:
    x = canvas().draw()
    assert x.shape == (6, 3, 32, 32)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx(ABOUT, abs=0.01)
    assert x.std((2, 3)).max() < 0.02


def test_repeats_differ_and_what_is_drawn_besides_does_not_matter() -> None:
    many, one = canvas(k=4), canvas(k=1)
    assert torch.equal(many.leaf[:3], one.leaf)
    assert torch.equal(many.leaf[3:6], one.leaf)
    assert not torch.equal(one.leaf[0], one.leaf[1])
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen, alone = many.views(x.repeat(4, 1, 1, 1), 24), one.views(x, 24)
    torch.testing.assert_close(seen[3:6], alone)
    assert (one.views(x, 24) - alone).abs().mean() > 0.01, "another view each time"
    assert not torch.equal(canvas(seed=1).leaf, canvas().leaf)


def test_views_are_turned() -> None:
    stripes = (torch.arange(32) // 4 % 2).float().expand(6, 3, 32, 32)
    inside = canvas().views(stripes, 32)[:, :, 12:20, 12:20]
    assert inside.diff(dim=2).abs().max() > 0.1, "stripes that are not turned are the same in every row"


def test_what_is_finer_than_the_detail_is_faded() -> None:
    rough = canvas()
    with torch.no_grad():
        rough.leaf.normal_(generator=torch.Generator().manual_seed(0)).mul_(3)
    energy = []
    for detail in (0.1, 0.4, 1.0):
        spectrum = torch.fft.rfft2(rough.draw(detail).detach().mean(1) - 0.5).abs()
        energy.append(float(spectrum[:, 8:24, 8:].mean() / spectrum[:, :3, :3].mean()))
    assert energy[0] < energy[1] / 3 < energy[2] / 6


def test_beyond_its_edges_a_view_is_of_the_colour() -> None:
    white = torch.ones(6, 3, 32, 32)
    one = canvas()
    seen = [one.views(white, 32) for _ in range(8)]
    corners = torch.cat(seen)[:, :, 0, 0]
    outside = corners[(corners - torch.tensor(ABOUT)).abs().amax(1) < 1e-5]
    assert len(outside) > 5
    assert torch.cat(seen)[:, :, 16, 16].min() > 0.99


def test_an_optimiser_changes_it_at_every_scale() -> None:
    one = canvas(k=1, repeats=1)
    target = torch.zeros(1, 3, 32, 32)
    target[..., :16] = 1.0
    optimiser = torch.optim.Adam([one.leaf], 0.1)
    first = None
    for _ in range(60):
        loss = (one.draw() - target).square().mean()
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 3
