"""What a run learns and is scored on: the common part of environments and supervised tasks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, NewType, Self

Json = NewType("Json", str)  # a setting whose value is JSON text


class ScoreRange(NamedTuple):
    """Two mean raw scores that put different subjects on one scale."""

    low: float  # normalises to 0
    high: float  # normalises to 1
    meaning: str  # what they are, such as "random play at 0 and a professional tester at 100 %"

    def normalise(self, score: float) -> float:
        """Map a raw score linearly, so that `low` becomes 0 and `high` becomes 1."""
        return (score - self.low) / (self.high - self.low)


class Subject(ABC):
    """An environment or a supervised task. Callers ask what it can do and how it is scored, never which one it is."""

    title_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Titles that are often compared together, by the name of the set, such as "atari/57"."""

    title_setting: ClassVar[str | None] = None
    """Name of the setting that selects the title, in any spelling; None if there is only one title."""

    @classmethod
    def titled(cls, name: str) -> Self:
        """Return it with this title and defaults for the rest. Raise ValueError that says which are allowed."""
        if cls.title_setting is None:
            raise TypeError(f"{cls} has only one title")
        return cls(**{cls.title_setting: name})

    @property
    @abstractmethod
    def title(self) -> str:
        """Short name for run folders and tables, such as "breakout" or "listops-10"."""

    @property
    def suite(self) -> str | None:
        """Group of subjects whose normalised scores may be averaged; None for no group."""
        return None

    @property
    def protocol(self) -> str | None:
        """Name of the rules of play; scores under different protocols are not comparable."""
        return None

    @property
    def imports(self) -> Mapping[str, str]:
        """Code that settings name and that is imported to run this, beyond known packages: setting -> what it is."""
        return {}

    @property
    def packages(self) -> Mapping[str, str]:
        """Versions of the installed packages, by name, that only this subject depends on."""
        return {}

    @property
    @abstractmethod
    def score_name(self) -> str:
        """What a score is, for axes and tables, such as "return"."""

    @property
    def lower_is_better(self) -> bool:
        """True if a lower score is better."""
        return False

    @property
    def score_range(self) -> ScoreRange | None:
        """Scores that normalise to 0 and 1; None if there are none."""
        return None

    @property
    def mmer_steps(self) -> int | None:
        """Agent steps of one training iteration, for benchmarks that report MMER; None for all others.

        MMER is the maximum over iterations of the mean return of the episodes that ended in one.
        """
        return None

    @property
    def reference_scores(self) -> Mapping[str, float]:
        """Scores to compare with, by name, in display order."""
        return {}

    @property
    def reference_sources(self) -> str:
        """A phrase to print beside the reference scores: what they are and who published them."""
        return ""
