"""One Atari game with its RGB screens, for video and watching. The observations are those of training."""

from collections.abc import Iterator

import cv2
import numpy as np
from ale_py import Action, ALEInterface, LoggerMode
from numpy.typing import NDArray

from rfwp.envs.ale import FRAME_SHAPE, FRAMES_PER_STEP, Protocol, game_seeds, game_spec, rom_path
from rfwp.envs.spaces import Observation, check_actions
from rfwp.envs.vector_env import EpisodeTracker, Renderer, Step


class Screen(Renderer):
    """The Atari renderer: plays the same game as the first environment of `config.build(...)`.

    The same seed and actions give the same steps, bit for bit. The batched emulator can show neither colours nor the
    frames that it skips, so this class reimplements it for one game.
    """

    frames_per_second = 60  # NTSC console, rounded

    def __init__(self, game: str, rules: Protocol, max_frames: int) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)  # hides its banner
        self.spec = game_spec(game, rules)
        self._game, self._rules, self._max_frames = game, rules, max_frames
        self._actions = [Action.__members__[name] for name in self.spec.action_names[0]]
        self._tracker = EpisodeTracker(1)
        self._stack = np.zeros(FRAME_SHAPE, np.uint8)
        self._emulator = ALEInterface()
        self._emulator.setFloat("repeat_action_probability", rules.sticky)

    def reset(self, seed: int) -> Step:
        game_seed = int(game_seeds(seed, 1)[0])
        self._random = np.random.RandomState(game_seed)
        self._emulator.setInt("random_seed", game_seed)
        self._emulator.loadROM(rom_path(self._game))  # the emulator reads its seed here
        self._begin_game()
        self._screens = np.stack([self._emulator.getScreenRGB()] * FRAMES_PER_STEP)
        return self._tracker.open(self._observation())

    def step(self, action: NDArray[np.int64]) -> Step:
        check_actions(action, 1, self.spec.action_sizes)
        lives, reward = self._emulator.lives(), 0
        grey, colour = [], []
        for points in self._frames(self._actions[action[0, 0]]):
            reward += points
            grey.append(self._emulator.getScreenGrayscale())
            colour.append(self._emulator.getScreenRGB())
        self._screens = np.stack(colour + colour[-1:] * (FRAMES_PER_STEP - len(colour)))
        life_lost = 0 < self._emulator.lives() < lives
        episode_over = self._game_over
        if episode_over:
            self._begin_game()
        else:
            # Flickering sprites are drawn only in every other frame.
            newest = _resized(np.maximum(*grey[-2:]))
            self._stack = np.concatenate([self._stack[1:], newest[None]])
        return self._tracker.advance(
            self._observation(),
            np.array([reward], np.float32),
            np.array([episode_over or (life_lost and self._rules.life_ends_episode)]),
            np.array([episode_over]),
        )

    def screens(self) -> NDArray[np.uint8]:
        """Return the RGB screens of the last agent step's frames, [4, H, W, 3].

        If the game ended during the step, its last screen is repeated. After reset(), all show the opening screen.
        """
        return self._screens

    def close(self) -> None:
        vars(self).pop("_emulator", None)  # it has no close method

    def _observation(self) -> Observation:
        return (self._stack[None].copy(),)

    def _frames(self, action: Action) -> Iterator[int]:
        """Yield the reward of each frame of an agent step; stop early if the game ends."""
        for _ in range(FRAMES_PER_STEP):
            yield self._emulator.act(action)
            if self._game_over:
                return

    @property
    def _game_over(self) -> bool:
        played = self._emulator.getEpisodeFrameNumber() - self._opening_frame
        return bool(self._emulator.game_over() or played >= self._max_frames)

    def _begin_game(self) -> None:
        self._emulator.reset_game()
        fire = self._rules.fire_reset and Action.FIRE in self._actions
        if fire:
            self._emulator.act(Action.FIRE)
        for _ in range(self._draw_noops() - fire):
            self._emulator.act(Action.NOOP)
            if self._emulator.game_over():
                self._emulator.reset_game()
        self._opening_frame = self._emulator.getEpisodeFrameNumber()
        first = _resized(self._emulator.getScreenGrayscale())
        self._stack = np.stack([first] * FRAME_SHAPE[0])

    def _draw_noops(self) -> int:
        # Like the batched emulator: C++'s mt19937, one 32-bit word, scaled. A seed then gives the same game in both.
        word = int(self._random.randint(2**32, dtype=np.uint32))
        return word * self._rules.noop_max >> 32


def _resized(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a grey screen [210, 160] to the size of an observation."""
    _, height, width = FRAME_SHAPE
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
