"""The pictures of films and of the window: the game alone, or with the agent's outputs and memory beside it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal, Self

from rfwp.envs.vector_env import Renderer
from rfwp.models import factored
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.memory_view import MemoryView
from rfwp.runners.evaluation.rollout import Transition
from rfwp.runners.film.canvas import Pixels, fitted, resized
from rfwp.runners.film.overlay import GAME_ROOM, Overlay, Thought
from rfwp.runners.runfolder.evaluations import Policy
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import AgentRunConfig

OverlayName = Literal["memory"]


class Picture(AbstractContextManager["Picture"]):
    """The game alone, enlarged."""

    room = (1280, 720)  # width and height for the game

    def __init__(self, screen: Renderer) -> None:
        """Take a renderer that has been reset."""
        self.screen = screen
        _, height, width, _ = screen.screens().shape
        self.size = self._shown = fitted((width, height), self.room)

    def frames(self, transition: Transition) -> Iterator[Pixels]:
        """Yield the frames [height, width, 3] of the last agent step; each is valid until the next."""
        for image in self.screen.screens():
            yield resized(image, self._shown)

    def __exit__(self, *error: object) -> None:
        return None


class MemoryPicture(Picture):
    """The game beside policy, value and memory, from the forward pass that acted."""

    room = GAME_ROOM

    def __init__(self, screen: Renderer, agent: ActorCritic, title: str, subtitle: str) -> None:
        super().__init__(screen)
        self._overlay = Overlay(title, subtitle, screen.spec.action_names, self.size)
        self._view = MemoryView(agent.core)
        self._sizes = agent.action_sizes
        self.size = self._overlay.size

    def frames(self, transition: Transition) -> Iterator[Pixels]:
        image = self._overlay.draw(self._thought(transition))
        for game in super().frames(transition):
            self._overlay.game.of(image)[:] = game
            yield image

    def _thought(self, transition: Transition) -> Thought:
        logits, value = transition.output.logits[0, 0], transition.output.value[0, 0]
        return Thought(
            policy=factored.probabilities(logits, self._sizes).cpu().numpy(),
            action=tuple(map(int, transition.action[0])),
            value=float(value),
            reward=float(transition.step.reward[0]),
            opens=bool(transition.step.first[0]),
            episode_over=bool(transition.step.episode_over[0]),
            memory=self._view.read(),
        )

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._view.__exit__(*error)


def picture_of(
    overlay: OverlayName | None, agent: ActorCritic, config: AgentRunConfig, steps: int, policy: Policy
) -> Callable[[Renderer], Picture]:
    """Return the function that makes the requested picture from a renderer."""
    if overlay is None:
        return Picture
    subtitle = f"{name_of(config.core)}  ·  trained for {steps:,} agent steps  ·  {policy} actions"
    return lambda screen: MemoryPicture(screen, agent, config.env.title, subtitle)
