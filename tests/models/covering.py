"""Few rows instead of a full grid: a fault that needs two settings to meet is found as surely."""

from collections.abc import Iterable, Sequence
from itertools import combinations, product


def pairwise(*axes: Sequence[object], given: Iterable[tuple[object, ...]] = ()) -> list[tuple[object, ...]]:
    """Return rows, one value from each axis, in which every two values of different axes meet; `given` rows first.

    Greedy: each new row is the one with the most pairs that no row has yet. Where rows are equally good, the values
    that come first in their axes win, so put the most telling ones there.
    """

    def pairs(row: tuple[object, ...]) -> set[object]:
        return set(combinations(enumerate(row), 2))

    grid, rows = {row: pairs(row) for row in product(*axes)}, list(given)
    missing = set().union(*grid.values()) - set().union(*map(pairs, rows))
    while missing:
        row = max(grid, key=lambda row: len(grid[row] & missing))
        missing -= grid[row]
        rows.append(row)
    return rows
