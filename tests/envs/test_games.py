"""Names and reference scores of the 57 games."""

import pytest
from ale_py import roms

from rfwp.envs.games import GAMES, human_normalised, resolve


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


def test_every_reference_puts_random_play_at_0_and_the_human_at_100():
    for game, reference in GAMES.items():
        assert reference.random < reference.human
        assert human_normalised(game, reference.random) == 0
        assert human_normalised(game, reference.human) == pytest.approx(100)


def test_human_normalised_scores_are_linear_and_take_any_spelling():
    assert human_normalised("PongNoFrameskip-v4", (-20.7 + 14.6) / 2) == pytest.approx(50)
    assert human_normalised("double_dunk", -14.2) == pytest.approx(200)
