"""Pictures from label maps: every normalisation sees the labels; noise at every size."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.spade import SpadeGenerator

VALUES = [26.0, 128.0, 230.0]


def generator() -> SpadeGenerator:
    torch.manual_seed(0)
    return SpadeGenerator(VALUES, centre=127.5, scale=127.5, channels=(8, 8, 4), noise=2)


def test_a_map_of_any_size_gives_a_picture_of_its_size() -> None:
    for size in ((32, 32), (13, 22)):
        assert generator()(torch.zeros(2, 1, *size)).shape == (2, 1, *size)
    with pytest.raises(ValueError, match="two values"):
        SpadeGenerator([1.0])


def test_a_pixel_has_the_class_whose_value_is_nearest() -> None:
    levels = torch.tensor([[[[0.0, 100.0, 255.0]]]])
    one_hot = generator().one_hot((levels - 127.5) / 127.5)
    assert one_hot.argmax(dim=1).flatten().tolist() == [0, 1, 2]
    assert float(one_hot.sum()) == 3


def test_a_uniform_map_is_not_washed_out() -> None:
    """What a plain instance normalisation would make the same for every uniform map."""
    network = generator().eval()
    dark, bright = (network(torch.full((1, 1, 32, 32), level)) for level in (-0.8, 0.8))
    assert float((dark - bright).abs().mean()) > 1e-3


def test_noise_differs_in_training_and_is_the_same_afterwards() -> None:
    network, labels = generator(), torch.zeros(1, 1, 32, 32)
    assert not torch.equal(network.train()(labels), network(labels))
    assert torch.equal(network.eval()(labels), network(labels))


def test_a_uniform_map_has_texture_that_does_not_repeat() -> None:
    """A network that knows no finer place than its coarse pixels repeats itself with them."""
    network = generator().eval()
    uniform = network(torch.zeros(1, 1, 64, 64))[0, 0, 16:48, 16:48]
    spread = float(uniform.std())
    assert spread > 0
    for period in (2, 4):
        repeated = float((uniform[:, period:] - uniform[:, :-period]).std())
        assert repeated > 0.5 * spread


def test_another_seed_draws_another_texture() -> None:
    network, labels = generator().eval(), torch.zeros(1, 1, 32, 32)
    first = network(labels)
    network.seed = 1
    assert not torch.equal(network(labels), first)


def test_a_thin_line_is_seen_at_the_coarsest_level() -> None:
    network, seen = generator().eval(), []
    network.blocks[0].norms[0].register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    line = torch.full((1, 1, 32, 32), -0.8)
    line[..., 9, :] = 0.8
    network(line)
    assert seen[0].shape == (1, 3, 8, 8)
    assert seen[0][0, 2, 2].tolist() == [0.25] * 8


def styled(**more: int) -> SpadeGenerator:
    torch.manual_seed(0)
    args = {"centre": 127.5, "scale": 127.5, "channels": (8, 8, 4), "noise": 2, "style": 3}
    return SpadeGenerator(VALUES, **(args | more)).eval()


def test_a_code_changes_the_whole_picture_and_none_is_the_mean_of_all() -> None:
    network, labels = styled(), torch.zeros(1, 1, 32, 32)
    drawn = network(labels, torch.tensor([[2.0, 0.0, -1.0]]))
    assert torch.equal(network(labels), network(labels, torch.zeros(1, 3)))
    changed = (drawn - network(labels)).abs()
    for corner in (changed[..., :8, :8], changed[..., -8:, -8:]):
        assert float(corner.mean()) > 1e-3


def test_the_code_of_a_picture_holds_no_place() -> None:
    """A uniform picture has the same code at any size, but for what its rim adds."""
    network = styled()
    small, large = (network.encode(torch.full((1, 1, side, side), 0.5)).mean for side in (128, 256))
    other = network.encode(torch.full((1, 1, 256, 256), -0.5)).mean
    assert float((small - large).abs().max()) < 0.3 * float((large - other).abs().max())


def test_a_network_of_one_style_has_no_code() -> None:
    with pytest.raises(ValueError, match=r"model\.args\.style"):
        generator().encode(torch.zeros(1, 1, 32, 32))
    for wrong in ({"style": -1}, {"frames": 2}):
        with pytest.raises(ValueError, match="style >= 0 and odd frames"):
            SpadeGenerator(VALUES, **wrong)


def test_each_map_in_a_row_counts() -> None:
    """Each map has its own classes, and all of them count for the picture of the middle one."""
    network = styled(frames=3)
    maps = torch.zeros(1, 3, 32, 32)
    first = network(maps)
    assert first.shape == (1, 1, 32, 32)
    levels = torch.tensor([26.0, 128.0, 230.0]).reshape(1, 3, 1, 1)
    one_hot = network.one_hot((levels - 127.5) / 127.5)
    assert one_hot.flatten().nonzero().flatten().tolist() == [0, 4, 8]
    for place in range(3):
        changed = maps.clone()
        changed[:, place] = 0.8
        assert not torch.equal(network(changed), first)


def test_a_picture_has_no_rim_of_its_own() -> None:
    """A uniform map without noise is drawn uniformly, where no zeros lie beyond the rim."""
    spread = {}
    for padding in ("zeros", "replicate"):
        torch.manual_seed(0)
        network = SpadeGenerator(VALUES, channels=(8, 8, 4), noise=0, padding=padding).eval()
        for block in network.blocks:
            block.noise.data.zero_()
        with torch.inference_mode():
            spread[padding] = float(network(torch.full((1, 1, 64, 64), 26.0)).std())
    assert spread["replicate"] < 1e-5 < 1e-3 < spread["zeros"]
