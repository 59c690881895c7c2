"""A run that trains an agent in an environment."""

from collections.abc import Mapping
from typing import Any

import torch

from rfwp.agents import host
from rfwp.agents.actor_learner import ActorLearner, Update
from rfwp.agents.learner import Diverged
from rfwp.agents.metrics import RECENT_EPISODES, EpisodeStatistics
from rfwp.agents.trajectory import Trajectory
from rfwp.envs.spaces import described
from rfwp.runners.evaluation.scoreboard import print_evaluation, run_evaluation
from rfwp.runners.machine import resources
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.evaluations import final_evaluation, final_name, write_evaluation
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import FINAL_POLICY, FINAL_SEED, AgentRunConfig
from rfwp.runners.settings.consent import trusting
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.training.advice import Advice
from rfwp.runners.training.dashboard import number, percent
from rfwp.runners.training.memory_estimate import check_agent_sizes
from rfwp.runners.training.meter import ActorMeter
from rfwp.runners.training.training import Line, Tell, Training


class AgentTraining(Training[AgentRunConfig, ActorLearner]):
    """Counts episodes; the score is the mean return of the last RECENT_EPISODES of them."""

    kind = AGENT

    def __init__(self, config: AgentRunConfig, system: ActorLearner) -> None:
        super().__init__(config, system)
        self._episodes = EpisodeStatistics()
        self._newest_batch: Trajectory | None = None
        self._advice = Advice(config)

    def check_sizes(self) -> int:
        return check_agent_sizes(self.config, self.system.agent, self.system.num_processes, self.system.device)

    def prepare(self, folder: RunFolder) -> None:
        folder.keep_interface("env", self.config.env.spec().interface)
        if self.config.env.foreign:
            self.system.actor_output = str(folder.actor_output.absolute())

    def opening(self, expected_bytes: int) -> str:
        env = self.config.env
        fields = ", ".join(map(described, env.spec().observation))
        read = [f"Observation: {fields}", *env.notes] if env.foreign else []
        return "\n".join([self._machine(expected_bytes), *read])

    def _machine(self, expected_bytes: int) -> str:
        threads, precision = torch.get_num_threads(), str(self.system.agent.encoder.precision).removeprefix("torch.")
        return (
            f"{self.config.env.title}, core {name_of(self.config.core)}, {self.num_parameters:,} parameters, on"
            f" {self.system.device} ({precision} encoder, {threads} thread{'s' if threads > 1 else ''});"
            f" {self.config.actors.envs} environments in {self.system.num_processes} processes on {host.cores()} cores;"
            f" unrolls, activations and weights take about {resources.megabytes(expected_bytes)}"
        )

    def meter(self) -> ActorMeter:
        return ActorMeter(self.system)

    def note(self, update: Update, tell: Tell) -> bool:
        self._newest_batch = update.batch
        self._episodes.add(update.episodes)
        for failure in update.failures:
            reason = str(failure).partition("\n")[0]
            tell(f"an actor process {reason}; it was replaced and its unfinished unroll dropped")
        if advice := self._advice.look(update):
            tell(advice)
        return False

    def metrics(self) -> dict[str, float | None]:
        learner = self.system.learner
        frames = learner.steps * self.config.env.spec().frames_per_step
        return {"frames": frames, "updates": learner.version, **self._episodes.metrics()}

    @torch.no_grad()
    def check_model(self) -> None:
        """Try the first unroll of the newest batch: weights may have diverged before anything has acted with them."""
        if self._newest_batch is None:
            return
        unroll, agent = self._newest_batch.columns(0, 1), self.system.agent
        agent.eval()  # dropout would draw from the generator
        try:
            output, _ = agent(unroll.inputs, unroll.state)
        finally:
            agent.train()
        if not all(each.isfinite().all() for each in output):
            raise Diverged("the policy's logits and values are no longer finite")

    @property
    def score(self) -> float | None:
        enough = self._episodes.count >= RECENT_EPISODES  # a lucky first episode does not count
        return self._episodes.return_mean if enough else None

    def state_dict(self) -> dict[str, Any]:
        return {"episodes": self._episodes.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._episodes.load_state_dict(state["episodes"])

    def plain(self, line: Line) -> str:
        episodes = int(line["episodes"] or 0)
        return (
            f"{number(line['frames'])} frames  {number(line['steps_per_second'])} steps/s  return"
            f" {number(line['return_mean'], 2)} (last {min(episodes, RECENT_EPISODES)} of {episodes:,} episodes)  lag"
            f" {number(line['policy_lag'], 1)}"
        )

    def cells(self, line: Line) -> list[tuple[str, str]]:
        get = line.get
        return [
            (f"return (last {RECENT_EPISODES} episodes)", number(get("return_mean"), 2)),
            ("highest of those", number(get("return_max"), 0)),
            ("episodes ended", number(get("episodes"))),
            ("episode length, steps", number(get("length_mean"))),
            ("agent steps/s", number(get("steps_per_second"))),
            ("frames", number(get("frames"))),
            ("policy lag, updates", number(get("policy_lag"), 1)),
            ("emulator busy", percent(get("emulator_share"))),
            ("acting busy", percent(get("acting_share"))),
            ("queue full", percent(get("queue_fill"))),
            ("entropy, nats", number(get("entropy"), 3)),
            ("value explained", number(get("value_explained_variance"), 2)),
        ]

    def evaluate(self, folder: RunFolder, console: Terminal) -> None:
        config, steps = self.config, self.system.learner.steps
        if config.final_episodes == 0 or self._evaluated(folder):
            return
        result = run_evaluation(
            self.system.agent, config, config.final_episodes, steps, console, FINAL_POLICY, seed=FINAL_SEED
        )
        print_evaluation(result, console)
        write_evaluation(folder, final_name(steps), result.summary(), folder.checkpoints.at(steps))

    def _evaluated(self, folder: RunFolder) -> bool:
        """Return True if the final evaluation exists, with the configured number of episodes."""
        found = final_evaluation(folder)
        wanted = {"steps": self.system.learner.steps, "episodes": self.config.final_episodes}
        return found is not None and all(found.get(name) == value for name, value in wanted.items())

    @property
    def hints(self) -> Mapping[str, str]:
        trust = trusting(self.config.env)
        return {
            "score it again": f"evaluate {{run}}{trust}",
            "watch it play": f"watch {{run}}{trust}",
            "film it": f"evaluate {{run}} --video{trust}",
        }
