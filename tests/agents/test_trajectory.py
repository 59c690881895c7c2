"""Cutting and joining trajectories."""

import torch

from rfwp.agents.trajectory import Batcher, Trajectory, concatenate


def numbered(first: int, games: int, length: int = 2) -> Trajectory:
    """A trajectory whose every entry is the number of its game."""
    rows = lambda steps, dtype: torch.arange(first, first + games, dtype=dtype).expand(steps, games)  # noqa: E731
    return Trajectory(
        observation=(rows(length + 1, torch.uint8)[..., None, None, None], rows(length + 1, torch.int64)[..., None]),
        last_action=rows(length + 1, torch.int64)[..., None],
        reward=rows(length + 1, torch.float32),
        first=rows(length + 1, torch.int64) % 2 == 0,
        action=rows(length, torch.int64)[..., None],
        truncated=rows(length, torch.int64) % 3 == 0,
        behaviour=rows(length, torch.float32)[..., None],
        version=rows(length, torch.int64),
        state=(torch.arange(first, first + games)[:, None],),
    )


def games_in(batch: Trajectory) -> list[int]:
    """The games of a batch; fails unless every field holds the same ones."""
    games = batch.action[0].flatten().tolist()
    for field in (
        *(each[0].flatten() for each in batch.observation),
        batch.last_action[0].flatten(),
        batch.reward[0],
        batch.behaviour[0].flatten(),
        batch.state[0].flatten(),
    ):
        assert field.tolist() == games
    return games


def test_batches_keep_every_game_once_and_in_order():
    for widths in ([3, 3, 3, 3], [7, 1, 4], [12], [1] * 12, [5, 7]):
        batcher, first, seen = Batcher(4), 0, []
        for width in widths:
            for batch in batcher.add(numbered(first, width)):
                assert batch.batch_size == 4
                seen += games_in(batch)
            first += width
        assert seen == list(range(12))


def test_a_trajectory_of_the_right_width_is_not_copied():
    trajectory = numbered(0, 4)
    (batch,) = Batcher(4).add(trajectory)
    assert batch.observation[0].data_ptr() == trajectory.observation[0].data_ptr()


def test_columns_and_concatenate_are_inverse():
    whole = numbered(0, 6)
    again = concatenate([whole.columns(0, 2), whole.columns(2, 6)])
    for tensor, expected in zip(again.tensors, whole.tensors, strict=True):
        assert torch.equal(tensor, expected)
