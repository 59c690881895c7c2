"""Code execution (Irie et al. 2021): predict what a program of assignments, increments and conditionals prints."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from rfwp.checks import check, check_choice
from rfwp.envs.sequence_task import SECOND_HAND, Example, GeneratedTask

Semantics = Literal["published", "python"]

NAMES = tuple("xyzabcdefghijklmnopqrstuvw")
DIGITS = tuple("0123456789")
SYMBOLS = ("=", ";", "++", "--", "print", "if", "<", ">", ":")
NOTHING = "_"  # the class at every token that prints nothing
# Whole programs right, in percent: if every print is answered with the number last assigned to its variable, by
# statements, of 3 variables; and published, by variables.
FLOORS = {6: 46.0, 10: 29.0, 20: 8.0, 100: 0.0}
PUBLISHED = {
    3: {"LSTM": 99.0, "Delta Net": 90.7, "better of Delta RNN and RDN": 92.6, "Linear Transformer": 0.0},
    5: {"LSTM": 93.2, "Delta Net": 61.4, "Delta RNN": 85.1, "Linear Transformer": 0.0},
}
LOWEST, HIGHEST = -8, 16  # no value leaves this range


@dataclass(frozen=True)
class Config(GeneratedTask):
    """At the semicolon of a print that is executed, the class is the printed value; at all other tokens it is `_`.

    The defaults are the published data, which equal its files byte for byte. Answering each print with the number that
    the text last assigned to the variable is right half of the time in programs of 100 statements.
    """

    variables: int = 3
    """Number of variables. Published: 3 and 5."""

    statements: int = 100
    """Statements of a program. The first is an assignment and the last a print."""

    semantics: Semantics = "published"
    """What an assignment inside a conditional does. published: nothing if its variable has a value already, as in the
    published generator; python: it assigns."""

    train: int = 9_999
    """Programs to train on. 0: new ones for every update, which cannot be learned by heart."""

    valid: int = 999
    """Programs to select the best checkpoint on."""

    test: int = 999
    """Programs for the final score."""

    blank = 0
    dropped = 1  # as in the published generator

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.variables <= len(NAMES), "variables", self.variables, f"1 to {len(NAMES)}")
        check(self.statements >= 2, "statements", self.statements, "2 or more")
        check_choice("semantics", self.semantics, Semantics)

    @property
    def title(self) -> str:
        return f"code-{self.variables}x{self.statements}"

    @property
    def reference_scores(self) -> Mapping[str, float]:
        if self.semantics != "published":
            return {}
        known = self.variables == 3 and self.statements in FLOORS
        floor = {"last number assigned": FLOORS[self.statements]} if known else {}
        return {**floor, **self._published}

    @property
    def reference_sources(self) -> str:
        baseline = (
            "last number assigned: answering each print with the number that the text last assigned to its variable"
        )
        return f"{baseline}; {SECOND_HAND}" if self._published else baseline

    @property
    def _published(self) -> Mapping[str, float]:
        """Published test accuracies of these programs."""
        return PUBLISHED.get(self.variables, {}) if self.statements == 100 else {}

    @property
    def tokens(self) -> tuple[str, ...]:
        return (*NAMES[: self.variables], *DIGITS, *SYMBOLS)

    @property
    def classes(self) -> tuple[str, ...]:
        return (NOTHING, *map(str, range(LOWEST, HIGHEST + 1)))

    def draw(self, random: Random) -> Iterator[Example]:
        while True:
            program = Program(self, random)
            yield Example(program.token, program.target)


class Program:
    """A random program, executed while it is written. The order of the draws is that of the published generator."""

    def __init__(self, config: Config, random: Random) -> None:
        self.token: list[int] = []
        self.target: list[int] = []
        self._config = config
        self._random = random
        self._index = {symbol: index for index, symbol in enumerate(config.tokens)}
        self._value: dict[str, int] = {}  # of each variable, in the order of their first assignment
        self._assign(runs=True)
        for _ in range(config.statements - 2):
            self._any_statement()
        self._print(runs=True)

    def _any_statement(self) -> None:
        kind = self._random.randrange(4)
        if kind < 3:
            (self._assign, self._count, self._print)[kind](runs=True)
        else:
            self._conditional()

    def _conditional(self) -> None:
        """if x < 4 : and one statement, which is drawn, and so written, whether it runs or not."""
        less = self._random.randrange(2) == 0
        name, number = self._assigned(), self._random.randrange(10)
        self._write("if", name, "<" if less else ">", str(number), ":")
        runs = self._value[name] < number if less else self._value[name] > number
        kind = self._random.randrange(3)
        if kind == 0:
            self._assign(runs, conditional=True)
        else:
            (self._count, self._print)[kind - 1](runs)

    def _assign(self, runs: bool, conditional: bool = False) -> None:
        """x = 7 ;"""
        name, number = NAMES[self._random.randrange(self._config.variables)], self._random.randrange(10)
        self._write(name, "=", str(number), ";")
        ignored = conditional and name in self._value and self._config.semantics == "published"
        if runs and not ignored:
            self._value[name] = number

    def _count(self, runs: bool) -> None:
        """x ++ ; or x -- ; whichever keeps the value in range."""
        name = self._assigned()
        step = 1 if self._random.randrange(2) == 0 else -1
        if not LOWEST <= self._value[name] + step <= HIGHEST:
            step = -step
        self._write(name, "++" if step == 1 else "--", ";")
        if runs:
            self._value[name] += step

    def _print(self, runs: bool) -> None:
        """print x ;"""
        name = self._assigned()
        self._write("print", name, ";")
        if runs:
            self.target[-1] = 1 + self._value[name] - LOWEST

    def _assigned(self) -> str:
        return list(self._value)[self._random.randrange(len(self._value))]

    def _write(self, *symbols: str) -> None:
        self.token += [self._index[symbol] for symbol in symbols]
        self.target += [0] * len(symbols)
