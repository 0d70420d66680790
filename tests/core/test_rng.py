"""Random streams: they belong to a row's content, they look random, and the draws never depend on grouping."""

from __future__ import annotations

import pytest
import torch

from labelleaks.core import rng


def _streams(n: int, purpose: str = "test", seed: int = 0) -> torch.Tensor:
    x = torch.arange(n * 3, dtype=torch.float32).reshape(n, 3)
    return rng.streams(rng.content_keys(x, torch.zeros(n, dtype=torch.int64)), seed, purpose)


def test_mix_is_splitmix64() -> None:
    """The first outputs for seed 1234567, from the reference C code's well-known test vector."""
    state = torch.tensor([1234567])
    found = rng.bits(state, 3)[0].tolist()
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [value % (1 << 64) for value in found] == expected


def test_content_decides_the_key_and_position_does_not() -> None:
    x = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    keys = rng.content_keys(x, y)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.equal(rng.content_keys(x[order], y[order]), keys[order])
    assert torch.equal(rng.content_keys(x[2:3], y[2:3]), keys[2:3])
    assert len(keys.unique()) == 6
    assert (rng.content_keys(x, 1 - y) != keys).all()
    nudged = x.clone()
    nudged[0, 0, 0] = torch.nextafter(nudged[0, 0, 0], torch.tensor(2.0))
    assert (rng.content_keys(nudged, y) != keys).tolist() == [True] + [False] * 5
    not_contiguous = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(rng.content_keys(not_contiguous, y), keys)


def test_seed_and_purpose_give_other_streams() -> None:
    found = [_streams(50), _streams(50, "other"), _streams(50, seed=1), _streams(50, "te", seed=0)]
    assert len(torch.cat(found).unique()) == 200
    assert torch.equal(_streams(50), found[0])
    assert rng.seed_from(0, "a") != rng.seed_from(0, "b") != rng.seed_from(1, "b")
    assert 0 <= rng.seed_from(123, "purpose") < 1 << 63


@pytest.mark.parametrize("draw", [rng.bits, rng.uniform, rng.signs])
def test_draws_do_not_depend_on_grouping(draw) -> None:
    streams = _streams(7)
    whole = draw(streams, 20)
    assert torch.equal(torch.cat([draw(streams, 5), draw(streams, 15, first=5)], 1), whole)
    assert torch.equal(draw(streams[3:4], 20), whole[3:4])
    assert len(whole.unique(dim=0)) == 7


def test_uniform_is_uniform_in_0_1() -> None:
    u = rng.uniform(_streams(200), 1000).reshape(-1)
    assert u.dtype == torch.float32
    assert float(u.min()) >= 0 and float(u.max()) < 1
    counts = torch.histc(u, 20, 0, 1)
    chi_squared = float(((counts - 10000) ** 2 / 10000).sum())
    assert chi_squared < 43.8  # 99.9 % point at 19 degrees of freedom
    neighbours = rng.uniform(_streams(2000), 2)
    assert abs(float(torch.corrcoef(neighbours.T)[0, 1])) < 0.07


def test_signs_are_fair() -> None:
    signs = rng.signs(_streams(100), 1000)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.013


def test_normal_table_is_normal_and_windows_are_the_streams_own() -> None:
    table = rng.NormalTable(0, 40, size=1 << 16)
    streams = _streams(300)
    z = table.vectors(streams, 4)
    assert z.shape == (300, 4, 40)
    assert abs(float(z.mean())) < 0.02
    assert float(z.std()) == pytest.approx(1.0, abs=0.02)
    assert float((z > 1.6449).to(torch.float32).mean()) == pytest.approx(0.05, abs=0.006)
    assert torch.equal(table.vectors(streams[5:6], 2, first=2), z[5:6, 2:])
    assert torch.equal(rng.NormalTable(0, 40, size=1 << 16).vectors(streams, 4), z)
    assert not torch.equal(rng.NormalTable(1, 40, size=1 << 16).vectors(streams, 4), z)


def test_normal_table_goes_round_where_rows_are_wider_than_it() -> None:
    table = rng.NormalTable(0, 100, size=32)
    z = table.vectors(_streams(10), 3)
    assert z.shape == (10, 3, 100)
    assert torch.equal(z[..., :32], z[..., 32:64])


def test_no_global_random_state_is_touched() -> None:
    before = torch.get_rng_state()
    rng.NormalTable(3, 10, size=64).vectors(_streams(2), 2)
    rng.uniform(_streams(2), 5)
    assert torch.equal(torch.get_rng_state(), before)
