"""Gymnasium environments that do what real ones do now and then. Only separate processes import them."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces

SAMPLED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (40, 32, 3), np.uint8),
        "body": spaces.Tuple([spaces.Box(-np.inf, np.inf, (2, 3), np.float64), spaces.Box(-5, 5, (2,), np.int16)]),
        "cells": spaces.Box(0, 255, (7, 7, 3), np.uint8),
        "hand": spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 1], [0, -2]]),
        "phase": spaces.Discrete(3, start=-1),
        "switches": spaces.MultiBinary(4),
    }
)


class Odd(gymnasium.Env):
    """Misbehaves at step `at`, 0 being the reset, in the way that `how` says; otherwise every step pays 1."""

    observation_space = spaces.Dict({"numbers": spaces.Box(-1, 1, (2,)), "card": spaces.Discrete(3)})
    action_space = spaces.Discrete(2)

    def __init__(self, how="", at=0):
        self.how, self.at = how, at
        if how == "abort when made":
            os.abort()
        if how == "hang when made":
            time.sleep(3600)
        if how == "raise when made":
            raise ValueError("no such level")

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        print("a new episode")
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        reward = {"reward nan": float("nan"), "reward array": np.ones(2)}.get(self.how, 1.0)
        return self.observe(), reward, False, self.time == 10, {}

    def observe(self):
        numbers, card = np.full(2, self.time / 10, np.float32), self.time % 3
        if self.time < self.at:
            return {"numbers": numbers, "card": card}
        match self.how:
            case "shape":
                return {"numbers": numbers[:1], "card": card}
            case "type":
                return {"numbers": numbers, "card": 1.5}
            case "nan":
                return {"numbers": numbers * np.nan, "card": card}
            case "range":
                return {"numbers": numbers, "card": 3}
            case "missing":
                return {"numbers": numbers}
            case "raise":
                return [][self.time]
            case "abort":
                os.abort()
        return {"numbers": numbers, "card": card}


class Sampling(gymnasium.Env):
    """Observations are drawn from a space of every kind; `drawn` is a copy of the last one."""

    observation_space = SAMPLED
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.drawn = self.observation_space.sample()
        return self.drawn, {"options": options}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.drawn = self.observation_space.sample()
        return self.drawn, 0, False, False, {}


class Texts(gymnasium.Env):
    """One text is always the same, as its space says; another differs."""

    action_space = spaces.Discrete(2)

    class Always(spaces.Text):
        def sample(self, *_, **__):
            return "win"

    def __init__(self, told=True, says="win"):
        fields = {"number": spaces.Box(0, 1, (1,)), "mission": self.Always(10)}
        self.observation_space = spaces.Dict({**fields, "hint": spaces.Text(5)} if told else fields)
        self.says = says

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return {"number": np.zeros(1, np.float32), "mission": self.says, "hint": str(seed)}, {}

    def step(self, action):
        return {"number": np.zeros(1, np.float32), "mission": self.says, "hint": ""}, 0.0, False, False, {}


class Continuous(gymnasium.Env):
    """Continuous actions, bounded or not."""

    observation_space = spaces.Discrete(1)

    def __init__(self, high=1.0, kind="Box"):
        bounded = spaces.Box(np.float32(-1), np.float32(high), (2,))
        self.action_space = bounded if kind == "Box" else spaces.Tuple([bounded])

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, float(action.sum()), False, False, {}


gymnasium.register("Odd-v0", Odd)
