"""A delayed cue whose first process, of all that share a file, returns one reward that is not a number."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfwp.envs.toy import Toy
from rfwp.envs.worlds import delayed_cue


class Poisoned(Toy):
    def step(self, action):
        step = super().step(action)
        if self._config.flag:
            with contextlib.suppress(FileExistsError):  # two processes may come here at the same time
                Path(self._config.flag).touch(exist_ok=False)
                step.reward[1] = np.nan
        return step


@dataclass(frozen=True)
class Config(delayed_cue.Config):
    flag: str = ""

    def build(self, num_envs, num_threads=1):
        return Poisoned(self, num_envs)
