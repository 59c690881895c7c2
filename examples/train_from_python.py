"""Train a Recurrent Delta Net on a memory task in your own loop; takes a minute on two CPU cores."""

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.actor_pool import ActorsConfig
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.learner import LearnerConfig
from rfwp.agents.metrics import EpisodeStatistics
from rfwp.agents.objectives import vtrace
from rfwp.envs.worlds import recall
from rfwp.models.cores import rdn
from rfwp.models.encoders import flat

config = ActorLearnerConfig(
    env=recall.Config(num_keys=3),
    encoder=flat.Config(),
    core=rdn.Config(hidden_size=64),
    objective=vtrace.Config(discount=0.9),
    learner=LearnerConfig(unroll_length=16, batch_size=16, learning_rate=2e-3),
    actors=ActorsConfig(envs=32),
    total_steps=100_000,
    initialisation="orthogonal",
)

if __name__ == "__main__":  # actor processes import this file too
    episodes = EpisodeStatistics()
    with ActorLearner(config) as system:
        for update in system:
            episodes.add(update.episodes)
            if update.version % 50 == 0:
                entropy = float(update.metrics["entropy"])
                print(f"{update.agent_steps:,} steps: return {episodes.return_mean}, entropy {entropy:.2f} nats")
