"""Canvases: they begin as one colour, are drawn from coarse to fine, and no view of them holds for another."""

import pytest
import torch

from atlas.dream.canvas import Canvas, ImageStyle, affine_views

GROUND = (0.8, 0.5, 0.3)
CPU = torch.device("cpu")


def canvas(k: int = 2, repeats: int = 3, seed: int = 0, style: ImageStyle = ImageStyle(GROUND)) -> Canvas:  # noqa: B008
    return Canvas(k, repeats, 30, style, CPU, seed)


def test_a_canvas_begins_as_its_ground() -> None:
    x = canvas().draw()
    assert x.shape == (6, 3, 35, 35)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx(GROUND, abs=0.01)
    assert x.std((2, 3)).max() < 0.02


@pytest.mark.parametrize("ground", [0.5, 0.97, 0.05])
def test_any_ground_is_left_for_black_and_for_white(ground: float) -> None:
    one = canvas(1, 1, style=ImageStyle((ground,) * 3))
    middle = []
    for level in (-40.0, 40.0, 0.0):
        with torch.no_grad():
            one.leaf.zero_()[0, 0, 0, 0, 0] = level
        middle.append(one.draw()[0, :, 17, 17].mean())
    assert min(middle[:2]) < 0.1 * ground + 0.02
    assert max(middle[:2]) > ground + 0.9 * (1 - ground)
    (gradient,) = torch.autograd.grad(middle[2], one.leaf)
    assert gradient.abs().max() > 0.01, "a white ground is left as readily as a grey one"


def test_edges_fade_to_the_ground() -> None:
    one = canvas(1, 1)
    with torch.no_grad():
        one.leaf.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.5)
    away = (one.draw().detach()[0] - torch.tensor(GROUND).view(3, 1, 1)).abs().mean(0)
    border = torch.cat([away[0], away[-1], away[:, 0], away[:, -1]])
    assert border.mean() < 0.15 * away[10:-10, 10:-10].mean()


def test_waves_have_the_spectrum_of_the_style() -> None:
    steep = ImageStyle(GROUND, frequencies=(0.01, 1.0), spectrum=(1e4, 1.0))
    energy = []
    for style in (ImageStyle(GROUND), steep):
        one = canvas(1, 1, style=style)
        with torch.no_grad():
            one.leaf.normal_(generator=torch.Generator().manual_seed(0))
        spectrum = torch.fft.rfft2(one.draw().detach()[0].mean(0) - 0.5).abs()
        energy.append(float(spectrum[10:18, 10:].mean() / spectrum[1:4, 1:4].mean()))
    assert energy[1] < energy[0] / 2


def test_repeats_differ_and_what_is_drawn_besides_does_not_matter() -> None:
    many, one = canvas(k=4), canvas(k=1)
    assert torch.equal(many.leaf[:3], one.leaf)
    assert torch.equal(many.leaf[3:6], one.leaf)
    assert not torch.equal(one.leaf[0], one.leaf[1])
    x = torch.rand(3, 3, 35, 35, generator=torch.Generator().manual_seed(1))
    seen, alone = many.views(x.repeat(4, 1, 1, 1)), one.views(x)
    torch.testing.assert_close(seen[3:6], alone)
    assert (one.views(x) - alone).abs().mean() > 0.01, "another view each time"
    assert not torch.equal(canvas(seed=1).leaf, canvas().leaf)


def test_views_are_turned() -> None:
    stripes = (torch.arange(35) // 4 % 2).float().expand(6, 3, 35, 35)
    inside = canvas().views(stripes)[:, :, 12:20, 12:20]
    assert inside.diff(dim=2).abs().max() > 0.1, "stripes that are not turned are the same in every row"


def test_what_is_finer_than_the_detail_is_faded() -> None:
    rough = canvas()
    with torch.no_grad():
        rough.leaf.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.02)
    energy = []
    for detail in (0.1, 0.4, 1.0):
        x = rough.draw(detail).detach().mean(1)
        seen = (x - x.mean((1, 2), keepdim=True)) * torch.outer(*[torch.hann_window(35)] * 2)  # hides the edges
        spectrum = torch.fft.rfft2(seen).abs()
        energy.append(float(spectrum[:, 8:24, 8:].mean() / spectrum[:, 1:4, 1:4].mean()))
    assert energy[0] < energy[1] / 3 < energy[2] / 6


def test_beyond_its_edges_a_view_is_of_the_ground_and_on_average_of_its_own_size() -> None:
    white, ground = torch.ones(1, 3, 30, 30), torch.tensor(GROUND).view(3, 1, 1)
    shifted = affine_views(white, 30, ground, torch.tensor([[0.5], [0.5], [1.0], [0.5]]))
    assert torch.allclose(shifted[0, :, 15, -1], ground.flatten())
    assert shifted[0, :, 15, 0].min() > 0.99
    widths = torch.linspace(0, 1, 9).repeat(4, 1)
    widths[[0, 2, 3]] = 0.5
    square = torch.zeros(9, 3, 30, 30)
    square[:, :, 10:20, 10:20] = 1.0
    sides = (affine_views(square, 30, torch.zeros(3, 1, 1), widths)[:, 0] > 0.5).sum((1, 2)).float().sqrt()
    assert sides[0] > 11
    assert sides[-1] < 9
    assert sides.log().mean().exp() == pytest.approx(10, rel=0.05)


def test_an_optimiser_changes_it_at_every_scale() -> None:
    one = canvas(k=1, repeats=1)
    target = torch.zeros(1, 3, 35, 35)
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
