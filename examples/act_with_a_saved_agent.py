"""Load a run's agent and play three episodes: python act_with_a_saved_agent.py runs/recall-rdn-1."""

import sys
from pathlib import Path

import torch

from rfwp.models import factored
from rfwp.runners.evaluation.saved_agents import open_agent


@torch.no_grad()
def main(run: Path) -> None:
    saved = open_agent(run, "last")  # or "best", or a number of agent steps
    agent = saved.load(torch.device("cpu"))
    with saved.config.env.build(num_envs=1) as env:
        step, state = env.reset(seed=0), agent.initial_state(1)
        for episode in range(1, 4):
            while True:
                observation = tuple(torch.from_numpy(field)[None] for field in step.observation)  # [T=1, B=1, ...]
                reward, first = torch.from_numpy(step.reward)[None], torch.from_numpy(step.first)[None]  # [T=1, B=1]
                output, state = agent(observation, reward, first, state)
                step = env.step(factored.greedy(output.logits[0], agent.action_sizes).numpy())
                if step.episode_over[0]:
                    break
            print(f"episode {episode}: return {step.episode_return[0]:g} in {step.episode_length[0]} agent steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
