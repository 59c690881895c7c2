"""Published scores of IMPALA agents on the 57 games, for comparison."""

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple


class Publication(NamedTuple):
    """A source of mean raw scores of full games after 200 million frames."""

    title: str
    protocol: str  # a key of `rfwp.envs.ale.PROTOCOLS`
    source: str


# The keys are columns of published_scores.csv.
PUBLICATIONS = {
    "impala_shallow": Publication(
        "IMPALA shallow", "dqn", "Espeholt et al. 2018, shallow network, one agent per game, up to 30 no-ops"
    ),
    "impala_deep": Publication(
        "IMPALA deep", "dqn", "Espeholt et al. 2018, deep residual network, one agent per game, up to 30 no-ops"
    ),
    "cleanba": Publication(
        "Cleanba IMPALA", "machado", "Huang et al. 2023, Cleanba, IMPALA with the deep residual network on one A100"
    ),
}


@cache
def scores(publication: str) -> dict[str, float]:
    """Return the score of each of the 57 games in a publication, a key of PUBLICATIONS."""
    lines = resources.files("rfwp.envs").joinpath("published_scores.csv").read_text(encoding="utf-8").splitlines()
    return {row["game"]: float(row[publication]) for row in csv.DictReader(lines)}


def under(protocol: str) -> dict[str, Publication]:
    """Return the publications whose agents played under this protocol."""
    return {name: publication for name, publication in PUBLICATIONS.items() if publication.protocol == protocol}
