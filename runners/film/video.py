"""Films an agent: every frame of an episode, in real time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from rfwp.agents.metrics import Episode
from rfwp.envs.vector_env import Renderer
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.evaluation.rollout import rollout
from rfwp.runners.film.ffmpeg import Gif, Mp4
from rfwp.runners.film.picture import Picture
from rfwp.runners.machine.signals import cleaning_up
from rfwp.runners.runfolder.evaluations import Policy

ENCODERS = {".mp4": Mp4, ".gif": Gif}


def film(
    agent: ActorCritic,
    open_renderer: Callable[[], AbstractContextManager[Renderer]],
    paths: Sequence[Path],
    policy: Policy,
    seed: int,
    picture_of: Callable[[Renderer], Picture] = Picture,
    seconds: float | None = None,
) -> Episode | None:
    """Play one full episode, or its first `seconds`, into films (.mp4 or .gif); return the episode if it was full.

    Frames are written as they are played, so a long episode takes no more memory than a short one. Raise UserError,
    leaving no partial file, if a film cannot be written.
    """
    agent.eval()
    with cleaning_up(), open_renderer() as screen, ExitStack() as stack:
        screen.reset(seed)  # to know the size of its screen
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
