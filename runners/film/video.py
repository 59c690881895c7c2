"""Films an agent at play: every frame of the real game, at its real speed."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rfwp.agents.trajectory import Episode
from rfwp.envs.vector_env import Renderer
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.evaluation.rollout import Policy, rollout
from rfwp.runners.film.ffmpeg import Gif, Mp4
from rfwp.runners.film.picture import Picture
from rfwp.runners.machine.signals import cleaning_up

ENCODERS = {".mp4": Mp4, ".gif": Gif}


def film(
    agent: ActorCritic,
    open_renderer: Callable[[], Renderer],
    paths: Sequence[Path],
    policy: Policy,
    seed: int,
    picture_of: Callable[[Renderer], Picture] = Picture,
    seconds: float | None = None,
) -> Episode | None:
    """Plays one full game, or its first `seconds`, into films, each .mp4 or .gif; gives the score of a full game.

    Frames are written as they are played: a long game takes no more memory than a short one. UserError if a film cannot
    be written; nothing of it is left then.
    """
    agent.eval()
    with cleaning_up(), open_renderer() as screen, ExitStack() as stack:
        screen.reset(seed)  # for the size of its screens
        picture = stack.enter_context(picture_of(screen))
        films = [
            stack.enter_context(ENCODERS[path.suffix](path, picture.size, screen.frames_per_second)) for path in paths
        ]
        for played, transition in enumerate(rollout(agent, screen, policy, seed), start=1):
            for image in picture.frames(transition):
                for each in films:
                    each.write(image)
            if transition.step.episode_over[0]:
                return Episode(float(transition.step.episode_return[0]), int(transition.step.episode_length[0]))
            if seconds is not None and played * screen.spec.frames_per_step >= seconds * screen.frames_per_second:
                return None
    raise AssertionError("a rollout never ends")
