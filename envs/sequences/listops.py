"""Sequential ListOps (Irie et al. 2021): compute the value of nested list operations, such as [MAX 2 [MIN 4 7 ] ]."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from random import Random

from rfwp.checks import check
from rfwp.envs.sequence_task import NO_TARGET, SECOND_HAND, Example, GeneratedTask

DIGITS = tuple("0123456789")
OPERATORS = ("[MIN", "[MAX", "[FIRST")
EVALUATE: tuple[Callable[[list[int]], int], ...] = (min, max, itemgetter(0))
CLOSE = len(DIGITS) + len(OPERATORS)
# In percent, by depth: lists of which the root operator over the digits that are its own arguments has the value, and
# published test accuracies.
FLOORS = {1: 100.0, 2: 67.0, 3: 62.0, 4: 61.0, 5: 60.0, 10: 58.0, 15: 58.0}
PUBLISHED = {
    10: {"LSTM": 88.5, "Delta Net": 85.7, "better of Delta RNN and RDN": 83.6},
    15: {"LSTM": 24.4, "Delta Net": 77.6, "RDN": 79.2},
}
DEEPEST = 20  # the published generator writes only digits at this level


@dataclass(frozen=True)
class Config(GeneratedTask):
    """The value of the list, a digit, is predicted at its last bracket. Every operator has 2 to 5 arguments.

    The defaults are the published data, which equal its files byte for byte. The value of the root operator over the
    digits that are its own arguments is right 62 % of the time at depth 3, and 58 % at the published depths.
    """

    depth: int = 10
    """Levels of operators of the deepest argument: 1 is a list of digits. Published: 10 and 15."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.depth < DEEPEST, "depth", self.depth, f"1 to {DEEPEST - 1}")

    @property
    def title(self) -> str:
        return f"listops-{self.depth}"

    @property
    def reference_scores(self) -> Mapping[str, float]:
        floor = {"without nesting": FLOORS[self.depth]} if self.depth in FLOORS else {}
        return {**floor, **PUBLISHED.get(self.depth, {})}

    @property
    def reference_sources(self) -> str:
        baseline = "without nesting: the root operator over the digits that are its own arguments"
        return f"{baseline}; {SECOND_HAND}" if self.depth in PUBLISHED else baseline

    @property
    def tokens(self) -> tuple[str, ...]:
        return (*DIGITS, *OPERATORS, "]")

    @property
    def classes(self) -> tuple[str, ...]:
        return DIGITS

    def draw(self, random: Random) -> Iterator[Example]:
        while True:
            tree = Tree(random)
            if tree.levels == self.depth + 1:
                yield Example(tree.token, [NO_TARGET] * (len(tree.token) - 1) + [tree.value])


class Tree:
    """A random list: its tokens, its value, and its levels, of which the digits are one."""

    def __init__(self, random: Random) -> None:
        self.token: list[int] = []
        self.levels = 0
        self._random = random
        self.value = self._node(level=1)

    def _node(self, level: int) -> int:
        """Write one argument, or with level 1 the list; return its value."""
        self.levels = max(self.levels, level)
        chance = self._random.random() if level < DEEPEST else 1.0
        if chance > 0.25 and level > 1:
            digit = self._random.randrange(len(DIGITS))
            self.token.append(digit)
            return digit
        bracket = len(self.token)
        self.token.append(CLOSE)  # replaced by the operator, which is drawn after its arguments
        values = [self._node(level + 1) for _ in range(2 + self._random.randrange(4))]
        operator = self._random.randrange(len(OPERATORS))
        self.token[bracket] = len(DIGITS) + operator
        self.token.append(CLOSE)
        return EVALUATE[operator](values)
