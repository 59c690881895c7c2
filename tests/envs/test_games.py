"""Names and reference scores of the 57 games."""

import pytest
from ale_py import roms

from rfwp.envs.games import GAMES, resolve
from rfwp.envs.worlds.atari import Config


def camel(game: str) -> str:
    return "".join(word.capitalize() for word in game.split("_"))


def test_there_are_57_games_and_the_emulator_has_them():
    assert len(GAMES) == 57
    assert all(roms.get_rom_path(game) for game in GAMES)


@pytest.mark.parametrize(
    "spelling",
    [
        "{snake}",
        "{camel}",
        "ALE/{camel}-v5",
        "ale/{camel}-v5",
        "{camel}-v4",
        "{camel}NoFrameskip-v4",
        "{camel}Deterministic-v4",
        "{camel}NoFrameskip",
        "{kebab}",
        "{spaced}",
        "{upper}",
        " {snake} ",
    ],
)
def test_every_game_is_known_by(spelling):
    for game in GAMES:
        kebab, spaced, upper = game.replace("_", "-"), game.replace("_", " ").title(), game.upper()
        assert resolve(spelling.format(snake=game, camel=camel(game), kebab=kebab, spaced=spaced, upper=upper)) == game


@pytest.mark.parametrize(
    ("title", "game"),
    [
        ("Q*bert", "qbert"),
        ("H.E.R.O.", "hero"),
        ("Montezuma's Revenge", "montezuma_revenge"),
        ("Yars' Revenge", "yars_revenge"),
        ("Ms. Pac-Man", "ms_pacman"),
        ("Up'n Down", "up_n_down"),
    ],
)
def test_a_game_is_known_by_its_title(title, game):
    assert resolve(title) == game


def test_an_unknown_game_is_answered_in_one_line_with_the_nearest():
    with pytest.raises(ValueError, match=r"^game: got 'pnog'; nearest: pong, up_n_down$"):
        resolve("pnog")
    with pytest.raises(ValueError, match=r"^game: got '42'; allowed: alien, .*, zaxxon$"):
        resolve("42")


def test_the_score_range_of_every_game_goes_from_random_play_to_the_human():
    for game, reference in GAMES.items():
        assert reference.random < reference.human
        assert Config(game).score_range[:2] == (reference.random, reference.human)


def test_normalised_scores_are_linear_within_the_range_and_beyond_it():
    assert Config("pong").score_range.normalise((-20.7 + 14.6) / 2) == pytest.approx(0.5)
    assert Config("double_dunk").score_range.normalise(-14.2) == pytest.approx(2)
