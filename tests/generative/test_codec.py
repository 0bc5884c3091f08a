"""Images to bytes and back: the codes exactly, in about as many bytes as they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import DIGIT_LEVELS, Digits, fit, settings
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pipeline.config.sections import Normalize, Train
from pipeline.core.errors import ConfigError, LdctError
from pipeline.generative import entropy_coder
from pipeline.generative.codec import HEADER, STAGED_HEADER, Codec, Expectation
from pipeline.generative.compressed_file import CompressedFile
from pipeline.models.adapters.base import HUModel
from pipeline.models.code_book import CodeBook
from pipeline.models.redcnn import REDCNN
from pipeline.models.vqvae import VQVAE
from pipeline.training.steps.vector_quantised import VectorQuantised

OLD = Path(__file__).parents[1] / "data" / "upgrade" / "compressed"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bits(counts: NDArray, symbols: list[int]) -> float:
    """What the symbols hold, by frequencies as they are."""
    return float(-np.log2(counts[symbols] / counts.sum()).sum())


# The entropy coder


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_symbols_come_back_in_as_many_bytes_as_they_hold(count: int) -> None:
    rng = np.random.default_rng(count)
    counts = np.rint(1e5 * rng.dirichlet(np.full(200, 0.3))).astype(int) + 1
    symbols = rng.choice(200, count, p=counts / counts.sum()).tolist()
    table = entropy_coder.table(counts)
    data = entropy_coder.encode(symbols, [table] * count)
    assert entropy_coder.decode(data, count, lambda before: table) == symbols
    assert len(data) <= bits(counts, symbols) / 8 * 1.005 + 5


def test_each_symbol_may_have_a_table_of_its_own() -> None:
    """Certain symbols cost nothing: sixteen bits' worth of them fit in no byte."""
    sure = [entropy_coder.table(np.eye(4, dtype=int)[n] * 10**6) for n in range(4)]
    symbols = [n % 4 for n in range(2000)]
    data = entropy_coder.encode(symbols, [sure[s] for s in symbols])
    assert len(data) <= 5
    assert entropy_coder.decode(data, 2000, lambda before: sure[len(before) % 4]) == symbols


@pytest.mark.parametrize("counts", [[0, 0, 0], [5], [1, 0, 10**12], list(range(1000))])
def test_a_table_sums_up_and_leaves_every_symbol_possible(counts: list[int]) -> None:
    table = entropy_coder.table(np.array(counts))
    assert table[0] == 0
    assert table[-1] == 2**entropy_coder.BITS
    assert np.diff(table).min() >= 1


def test_a_table_keeps_the_proportions() -> None:
    shares = np.diff(entropy_coder.table(np.array([1000, 2000, 5000]))) / 2**entropy_coder.BITS
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=1e-4)


@pytest.mark.parametrize("symbols", [0, 2**15 + 1])
def test_too_many_symbols_for_a_table_are_refused(symbols: int) -> None:
    with pytest.raises(LdctError, match="symbols"):
        entropy_coder.table(np.ones(symbols, dtype=int))


# What is expected of a code


def counted(codes: NDArray[np.int64], size: int) -> Expectation:
    network = VQVAE(channels=(2,), num_embeddings=size, embedding_dim=2, num_res_layers=0)
    network.count(torch.from_numpy(codes)[None, None])
    return Expectation(network.follows.numpy())


def cost(expected: Expectation, codes: NDArray[np.int64]) -> float:
    """Bits a code, as the coder would spend them."""
    symbols = codes.ravel().tolist()
    tables = [expected.table(symbols, at, codes.shape[1]) for at in range(len(symbols))]
    return 8 * len(entropy_coder.encode(symbols, tables)) / len(symbols)


def test_neighbours_that_tell_a_code_make_it_cheap() -> None:
    """Stripes: below each code stands the same. Each alone is one of eight, three bits."""
    rng = np.random.default_rng(0)
    stripes = np.repeat(rng.integers(8, size=(1, 400)), 60, axis=0)
    assert cost(counted(stripes, 8), stripes) < 0.3


def test_codes_that_know_nothing_of_each_other_cost_their_entropy() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.25, 0.125, 0.125])
    seen, unseen = rng.choice(4, (2, 150, 150), p=share)
    assert cost(counted(seen, 4), unseen) == pytest.approx(1.75, rel=0.03)


def test_what_was_never_counted_can_still_be_coded() -> None:
    nothing = counted(np.zeros((2, 2), dtype=np.int64), 5)
    codes = np.arange(25).reshape(5, 5) % 5
    symbols = codes.ravel().tolist()
    tables = [nothing.table(symbols, at, 5) for at in range(25)]
    data = entropy_coder.encode(symbols, tables)
    found = entropy_coder.decode(data, 25, lambda before: nothing.table(before, len(before), 5))
    assert found == symbols


# The codec


def small_codec(seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    network = VQVAE(channels=(4, 4), num_embeddings=16, embedding_dim=4, num_res_layers=1)
    model = HUModel(network, normalize=Normalize(centre=8, scale=8), residual=False).eval()
    with torch.no_grad():
        sample = torch.rand(1, 1, 64, 64) * 2 - 1
        given = network.encode(sample).movedim(1, -1).flatten(0, -2)
        network.quantizer.quantizer.embedding.weight.copy_(given[::16][:16])
        network.count(network.codes(sample))
    return Codec(model)


def picture(rows: int, columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 16, (rows, columns)).astype(np.float32)


@pytest.mark.parametrize("shape", [(32, 32), (33, 50), (1, 1), (5, 64)])
def test_a_file_expands_to_what_the_network_makes_of_the_image(shape: tuple[int, int]) -> None:
    codec, image = small_codec(), picture(*shape)
    expanded = codec.expand(codec.compress(image))
    with torch.inference_mode():
        expected = codec.model(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert expanded.shape == shape
    assert expanded == pytest.approx(expected, abs=1e-4)
    assert len(np.unique(codec.codes(picture(64, 64)))) > 3, "there was something to code"


def test_a_damaged_file_is_refused() -> None:
    codec = small_codec()
    data = codec.compress(picture(40, 40))
    flipped = bytearray(data)
    flipped[-3] ^= 0x10
    longer = data + b"\0"
    for broken in (b"", data[: HEADER.size - 1], data[:-1], bytes(flipped), longer, b"PNG" + data):
        with pytest.raises(LdctError):
            codec.expand(broken)


def test_another_model_s_file_is_refused() -> None:
    data = small_codec().compress(picture(16, 16))
    with pytest.raises(LdctError, match="made with model"):
        small_codec(seed=1).expand(data)
    assert small_codec().expand(data).shape == (16, 16)


def test_a_model_without_a_code_book_is_refused() -> None:
    model = HUModel(REDCNN(channels=2), normalize=DIGIT_LEVELS, residual=False)
    with pytest.raises(ConfigError, match="vqvae"):
        Codec(model)


# Stages


def staged_codec(seed: int = 0, stages: int = 3) -> Codec:
    torch.manual_seed(seed)
    network = VQVAE((4, 4), num_embeddings=16, embedding_dim=4, num_res_layers=1, stages=stages)
    model = HUModel(network, normalize=Normalize(centre=8, scale=8), residual=False).eval()
    with torch.no_grad():
        sample = torch.rand(1, 1, 64, 64) * 2 - 1
        for stage, book in enumerate(network.books):
            given = network.inputs_of_stages(sample)[stage].movedim(1, -1).flatten(0, -2)
            book.quantizer.embedding.weight.copy_(given[stage::16][:16])
        network.count(network.codes(sample))
    return Codec(model)


def test_what_is_decoded_are_the_codes_of_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, image = staged_codec(), picture(33, 50)
    seen = []
    monkeypatch.setattr(codec, "image", lambda codes, shape: seen.append((codes, shape)))
    codec.expand(codec.compress(image))
    ((codes, shape),) = seen
    assert shape == (33, 50)
    np.testing.assert_array_equal(codes, codec.codes(image))
    assert all(len(np.unique(stage)) > 3 for stage in codes), "there was something to code"


def test_a_later_stage_quantises_what_is_left() -> None:
    """So that the sum of the codes comes nearer to what the encoder gave."""
    network = staged_codec().network
    inputs = network.inputs_of_stages(torch.rand(1, 1, 64, 64) * 2 - 1)
    distances = [float(left.square().mean()) for left in inputs]
    assert distances[0] > distances[1] > distances[2]
    codes = network.codes(torch.zeros(1, 1, 16, 16))
    found = sum(book.embed(codes[:, n]) for n, book in enumerate(network.books))
    expected = network.decode(found)
    torch.testing.assert_close(network.image(codes, (16, 16)), expected)


def test_the_first_stages_of_a_file_are_those_of_a_shorter_one() -> None:
    codec, image = staged_codec(), picture(40, 40)
    whole = codec.compress(image)
    sizes = []
    for stages in (1, 2, 3):
        shorter = codec.compress(image, stages)
        sizes.append(len(shorter))
        np.testing.assert_array_equal(codec.expand(whole, stages), codec.expand(shorter))
        # What comes after the stages that are read need not be there.
        np.testing.assert_array_equal(
            codec.expand(whole[: len(shorter)], stages), codec.expand(shorter)
        )
    assert sizes == sorted(set(sizes)), "bytes grow"
    assert not np.array_equal(codec.expand(whole, 1), codec.expand(whole))


@pytest.mark.parametrize("stages", [0, 4])
def test_stages_that_are_not_there_are_refused(stages: int) -> None:
    codec = staged_codec()
    with pytest.raises(ConfigError, match=f"the model has 1 to 3, not {stages}"):
        codec.compress(picture(16, 16), stages)
    with pytest.raises(LdctError, match=f"holds 2 stages: {stages} cannot be read"):
        codec.expand(codec.compress(picture(16, 16), 2), stages)


def test_a_damaged_file_of_stages_is_refused() -> None:
    codec, image = staged_codec(), picture(40, 40)
    data = codec.compress(image)
    damaged = [data[: STAGED_HEADER.size - 1], data[: STAGED_HEADER.size], data[:-1], data + b"\0"]
    damaged += [b"LVQ1" + data[4:]]
    for place in (STAGED_HEADER.size - 1, STAGED_HEADER.size, len(data) // 2, len(data) - 3):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        damaged.append(bytes(flipped))
    for broken in damaged:
        with pytest.raises(LdctError, match=r"damaged|not a file|cannot be read"):
            codec.expand(broken)
    with pytest.raises(LdctError, match="made with model"):
        small_codec().expand(data)
    with pytest.raises(LdctError, match="made with model"):
        codec.expand(small_codec().compress(image))


def test_the_code_of_the_stage_before_makes_a_code_cheap() -> None:
    """Each code of the second stage goes with one of the first; alone each takes three bits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(8, size=(2, 80, 80))
    codes[1] = (codes[0] * 3 + 1) % 8
    network = VQVAE((2,), num_embeddings=8, embedding_dim=2, num_res_layers=0, stages=2)
    network.count(torch.from_numpy(codes)[None])
    expected = Expectation(network.later_follows[0].numpy())
    first, second = (each.ravel().tolist() for each in codes)
    tables = [expected.table(second, at, 80, first) for at in range(len(second))]
    data = entropy_coder.encode(second, tables)
    assert 8 * len(data) / len(second) < 0.3
    found = entropy_coder.decode(
        data, len(second), lambda before: expected.table(before, len(before), 80, first)
    )
    assert found == second


def test_files_and_weights_of_one_stage_read_as_they_always_did() -> None:
    """Written before there were stages: tests/data/upgrade/compressed."""
    network = VQVAE(channels=(4, 4), num_embeddings=16, embedding_dim=4, num_res_layers=1)
    network.load_state_dict(load_file(OLD / "one-stage.safetensors"))
    codec = Codec(HUModel(network, normalize=Normalize(centre=8, scale=8), residual=False))
    found = CompressedFile.from_bytes((OLD / "one-stage.ldctvq").read_bytes())
    assert (found.header.model, found.header.stages) == ("coder/1", None)
    (file,) = found.images
    np.testing.assert_allclose(codec.expand(file), np.load(OLD / "one-stage.npy"), atol=1e-4)
    assert codec.compress(picture(33, 50)) == file
    assert found.to_bytes() == (OLD / "one-stage.ldctvq").read_bytes()


# Rare codes have a price


def priced_book(rate_weight: float) -> CodeBook:
    """Codes at 0 and 1, one of which is 1023 times as frequent."""
    found = CodeBook(2, 1, commitment_cost=0.25, decay=0.95, rate_weight=rate_weight).eval()
    found.embedding.weight.data = torch.tensor([[0.0], [1.0]])
    found.ema_cluster_size.data = torch.tensor([1023.0, 1.0])
    if rate_weight:
        found.mean_distance.fill_(0.01)
    return found


@pytest.mark.parametrize(("rate_weight", "border"), [(0.0, 0.5), (5.0, 0.75)])
def test_a_rare_code_is_taken_where_it_is_worth_its_bits(rate_weight: float, border: float) -> None:
    """Ten bits at 5 x 0.01 each are a square distance of 0.5: x^2 = (1 - x)^2 + 0.5."""
    values = torch.tensor([border - 0.01, border + 0.01]).view(1, 1, 1, 2)
    codes = priced_book(rate_weight)(values)[2]
    assert codes.flatten().tolist() == [0, 1]


def test_a_book_of_any_price_is_as_exact_in_bf16() -> None:
    for rate_weight in (0.0, 0.1):
        book = priced_book(rate_weight)
        values = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        plain = book(values)[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(book(values)[0], plain)


# Learning the book


def book() -> VQVAE:
    return VQVAE(channels=(8,), num_embeddings=32, embedding_dim=8, num_res_layers=1)


def learn(model: HUModel, train: Train) -> VectorQuantised:
    return VectorQuantised(model, nn.MSELoss(), train, revive_every=4)


def test_it_learns_a_book_that_is_used(tmp_path: Path) -> None:
    train = settings(iterations=250, batch=16, lr=5e-3)
    model, _, logged = fit(book(), learn, train, tmp_path)
    assert logged[-1]["loss"] < 0.25 * logged[0]["loss"]
    assert logged[-1]["codes_in_use"] > 8
    codec = Codec(model)
    image = Digits(1).images[0]
    data = codec.compress(image)
    # Sixteen codes of at most five bits; a plain digit holds 64 of more than four.
    assert len(data) - HEADER.size <= 14
    assert np.abs(codec.expand(data) - image).mean() < 2.5


def test_idle_codes_are_put_to_work() -> None:
    torch.manual_seed(0)
    network = book()
    model = HUModel(network, normalize=DIGIT_LEVELS, residual=False)
    step = learn(model, settings(iterations=100))
    quantizer = network.quantizer.quantizer
    quantizer.ema_cluster_size.fill_(10.0)
    quantizer.ema_cluster_size[3:7] = 0.1
    before = quantizer.embedding.weight.clone()
    step.done = 4
    image = torch.stack([Digits(2)[n]["target"] for n in range(2)])
    step._revive((image - 8) / 8)
    moved = (quantizer.embedding.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [3, 4, 5, 6]
    given = network.encode((image - 8) / 8).movedim(1, -1).flatten(0, -2)
    for fresh in quantizer.embedding.weight[3:7]:
        assert (given - fresh).abs().amax(dim=1).min() < 1e-5, "where the encoder was"


def test_codes_are_counted_when_the_network_stands_still(tmp_path: Path) -> None:
    train = settings(iterations=20, batch=4)
    model, _, _ = fit(book(), learn, train, tmp_path)
    # The last two of twenty iterations, of four images of 4 x 4 codes, left and above.
    assert int(model.network.follows.sum()) == 2 * 4 * 16 * 2
    rim = model.network.follows[:, -1].sum(dim=1)
    assert rim.tolist() == [2 * 4 * 4, 2 * 4 * 4]


def test_every_prefix_of_the_stages_learns_and_more_are_better(tmp_path: Path) -> None:
    network = VQVAE((8,), num_embeddings=16, embedding_dim=8, num_res_layers=1, stages=3)
    train = settings(iterations=250, batch=16, lr=5e-3)
    torch.manual_seed(0)
    model, _, _ = fit(network, learn, train, tmp_path)
    codec, digits = Codec(model), Digits(20).images
    found = []
    for stages in (1, 2, 3):
        files = [codec.compress(image, stages) for image in digits]
        errors = [
            np.square(codec.expand(file) - image).mean()
            for file, image in zip(files, digits, strict=True)
        ]
        found.append((float(np.mean(errors)), sum(map(len, files))))
    errors, sizes = zip(*found, strict=True)
    assert errors[0] > 1.1 * errors[1]
    assert errors[1] > 1.01 * errors[2]
    # Half as far as the mean of these digits is from them.
    assert errors[0] < 0.5 * np.square(np.stack(digits) - np.mean(digits, axis=0)).mean()
    assert sizes[0] < sizes[1] < sizes[2]


def test_stages_are_dropped_at_random_and_all_are_kept_as_often(tmp_path: Path) -> None:
    network = VQVAE((8,), num_embeddings=16, embedding_dim=8, num_res_layers=1, stages=3)
    step = learn(HUModel(network, normalize=DIGIT_LEVELS, residual=False), settings(iterations=9))
    drawn = torch.cat([step._kept(100) for _ in range(30)])
    assert torch.bincount(drawn, minlength=4).tolist() == pytest.approx(
        [0, 1000, 1000, 1000], rel=0.1
    )
    image = torch.rand(2, 1, 8, 8)
    network.eval()
    rebuilt, _ = network.rebuild(image, torch.tensor([1, 3]))
    codes = network.codes(image)
    torch.testing.assert_close(rebuilt[:1], network.image(codes[:1, :1], (8, 8)))
    torch.testing.assert_close(rebuilt[1:], network.image(codes[1:], (8, 8)))


def test_a_killed_training_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    train = settings(iterations=20, checkpoint_every=4)
    unbroken, _, _ = fit(book(), learn, train, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        fit(book(), learn, train, tmp_path / "killed", until=11)
    resumed, _, _ = fit(book(), learn, train, tmp_path / "killed")
    states = [list(model.state_dict().values()) for model in (resumed, unbroken)]
    assert all(map(torch.equal, *states))
