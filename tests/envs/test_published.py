"""Reference scores ship with the package, whole and with their protocol and source."""

import pytest

from rfwp.envs import published
from rfwp.envs.ale import PROTOCOLS
from rfwp.envs.games import GAMES
from rfwp.envs.worlds.atari import Config


@pytest.mark.parametrize("name", published.PUBLICATIONS)
def test_a_publication_has_a_score_for_each_of_the_57_games_and_says_how_it_came_about(name):
    assert published.scores(name).keys() == GAMES.keys()
    publication = published.PUBLICATIONS[name]
    assert publication.protocol in PROTOCOLS
    assert publication.source
    assert name in published.under(publication.protocol)


# The medians that the papers state over 57 games, in percent of the human: a slip in a column would move them.
@pytest.mark.parametrize(("name", "median"), [("impala_shallow", 93.2), ("impala_deep", 191.8)])
def test_scores_have_the_median_that_their_paper_states(name, median):
    normalised = sorted(Config(game).score_range.normalise(score) for game, score in published.scores(name).items())
    assert 100 * normalised[28] == pytest.approx(median, abs=0.1)
