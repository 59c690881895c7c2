"""Load a run's agent and play three episodes: python act_with_a_saved_agent.py runs/recall-rdn-1."""

import sys
from pathlib import Path

import numpy as np
import torch

from rfwp.models import factored
from rfwp.runners.evaluation.rollout import inputs_of
from rfwp.runners.evaluation.saved_agents import open_agent


@torch.no_grad()
def main(run: Path) -> None:
    saved = open_agent(run, "last")  # or "best", or a number of agent steps
    agent = saved.load(torch.device("cpu"))
    with saved.config.env.build(num_envs=1) as env:
        step, state = env.reset(seed=0), agent.initial_state(1)
        action = np.zeros((1, len(agent.action_sizes)), np.int64)  # [B=1, K]
        for episode in range(1, 4):
            while True:
                output, state = agent(inputs_of(step, action, "cpu"), state)
                action = factored.greedy(output.logits[0], agent.action_sizes).numpy()
                step = env.step(action)
                if step.episode_over[0]:
                    break
            print(f"episode {episode}: return {step.episode_return[0]:g} in {step.episode_length[0]} agent steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
