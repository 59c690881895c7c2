"""The learner: one batch of unrolls in, one optimiser step on the agent."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rfwp.agents import losses
from rfwp.agents.phases import Phases
from rfwp.agents.trajectory import Trajectory
from rfwp.agents.vtrace import vtrace
from rfwp.models.actor_critic import ActorCritic


@dataclass(frozen=True)
class LearnerConfig:
    """V-trace actor-critic with RMSProp; by default with the published hyperparameters."""

    unroll_length: int = 50
    """T: agent steps of an unroll, all of them back-propagated through."""
    batch_size: int = 32
    """B: unrolls in an update, which thus uses T x B agent steps."""
    learning_rate: float = 6e-4
    """Falls linearly from here to 0 over total_steps."""
    rmsprop_decay: float = 0.99
    """Decay of RMSProp's mean square (torch calls it alpha)."""
    rmsprop_epsilon: float = 0.01
    """Added to the root of RMSProp's mean square."""
    gradient_clip: float = 40.0
    """Largest global norm of the gradient."""
    discount: float = 0.99
    """Gamma, for one agent step."""
    baseline_cost: float = 0.5
    """Weight of ½Σ(vs - V)² in the loss."""
    entropy_cost: float = 0.01
    """Weight of Σ π log π in the loss."""
    reward_clip: float = 1.0
    """Rewards are clamped to [-reward_clip, reward_clip] in the loss; scores are not."""
    queue_size: int = 2
    """Unrolls of whole groups of games that may wait for the learner; acting pauses when the queue is full."""

    def __post_init__(self) -> None:
        for field in ("unroll_length", "batch_size", "queue_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a whole number of at least 1")
        for field in ("learning_rate", "rmsprop_epsilon", "gradient_clip", "reward_clip"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a number above 0")
        for field in ("baseline_cost", "entropy_cost"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a number of at least 0")
        for field in ("rmsprop_decay", "discount"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a number from 0 to 1")


class LearnerMetrics(NamedTuple):
    """What one update saw: scalar tensors on the learner's device, so that nothing waits for them."""

    total_loss: Tensor  # per agent step, as are the next three
    policy_loss: Tensor  # policy-gradient loss
    baseline_loss: Tensor  # ½ (vs - V)², before its weight
    entropy: Tensor  # of the target policy, nats
    value_mean: Tensor  # mean V(x_t)
    value_explained_variance: Tensor  # 1 - Var(vs - V) / Var(vs)
    gradient_norm: Tensor  # global, before the clip, of the summed loss
    update_skipped: Tensor  # 1 where the gradient was not finite and the weights stayed as they were
    importance_weight_mean: Tensor  # mean π/μ
    importance_weight_clipped: Tensor  # share of steps with π/μ above 1
    policy_lag: Tensor  # mean age of the policy that acted, in learner updates


class Learner:
    """Owns the weights that are trained, the optimiser, and the two counters that place a run on its schedule."""

    PATIENCE = 10  # skipped updates in a row after which there is no point in going on

    def __init__(self, agent: ActorCritic, config: LearnerConfig, total_steps: int) -> None:
        self.agent = agent
        self.config = config
        self.total_steps = total_steps
        self.agent_steps = 0  # learned from, so far
        self.version = 0  # updates done, so far
        self.phases = Phases()
        self._skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=next(agent.parameters()).device)
        self.optimiser = torch.optim.RMSprop(
            agent.parameters(), lr=config.learning_rate, alpha=config.rmsprop_decay, eps=config.rmsprop_epsilon
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next update: linear in agent steps, 0 from total_steps on."""
        return self.config.learning_rate * max(0.0, 1.0 - self.agent_steps / self.total_steps)

    def learn(self, batch: Trajectory) -> LearnerMetrics:
        """One gradient step on a batch; batch.unroll_length x batch.batch_size agent steps."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        with self.phases("forward"):
            loss, metrics = actor_critic_loss(self.agent, batch, self.config, self.version)
        with self.phases("backward"):
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        with self.phases("optimise"):
            norm = nn.utils.clip_grad_norm_(self.agent.parameters(), self.config.gradient_clip)
            self._step_if(norm.isfinite())
        self._skipped_in_a_row = torch.where(norm.isfinite(), 0, self._skipped_in_a_row + 1)
        self.version += 1
        self.agent_steps += batch.unroll_length * batch.batch_size
        return metrics._replace(gradient_norm=norm.detach(), update_skipped=1.0 - norm.isfinite().float())

    def _step_if(self, finite: Tensor) -> None:
        """One step of the optimiser, or none: one infinity would make every weight and mean square NaN for good."""
        if finite.device.type == "cpu":  # where a look costs nothing
            if finite:
                self.optimiser.step()
        else:
            self._step_and_undo_unless(finite)

    def _step_and_undo_unless(self, finite: Tensor) -> None:
        """The same, decided on the device: nothing waits for the answer. Only the optimiser's count of steps goes on.

        A gradient of zeros changes no weight, but RMSProp's mean squares decay with it: they are put back.
        """
        for parameter in self.agent.parameters():
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0.0)
        squares = [state["square_avg"] for state in self.optimiser.state.values()]
        if not squares:  # the first step: they begin at 0
            self.optimiser.step()
            return
        kept = torch._foreach_mul(squares, 1.0 - finite.float())
        self.optimiser.step()
        torch._foreach_mul_(squares, finite.float())
        torch._foreach_add_(squares, kept)

    @property
    def skipped_in_a_row(self) -> int:
        """Updates since the newest one with a finite gradient; the host waits for the device."""
        return int(self._skipped_in_a_row)

    @property
    def stuck(self) -> bool:
        """Whether PATIENCE updates in a row were skipped.

        On a GPU the answer costs a wait: it is looked for after every PATIENCE updates only, so there may be more.
        """
        look = self._skipped_in_a_row.device.type == "cpu" or self.version % self.PATIENCE == 0
        return look and self.skipped_in_a_row >= self.PATIENCE

    def state_dict(self) -> dict[str, Any]:
        """All that an update depends on but the agent's weights; tensors and plain values only."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "agent_steps": self.agent_steps,
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state_dict`; the agent's weights are loaded apart."""
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # as configured now, not as it was when the state was written
            group |= {"alpha": self.config.rmsprop_decay, "eps": self.config.rmsprop_epsilon}
        self.agent_steps = int(state["agent_steps"])
        self.version = int(state["version"])


def actor_critic_loss(
    agent: ActorCritic, batch: Trajectory, config: LearnerConfig, version: int
) -> tuple[Tensor, LearnerMetrics]:
    """The summed loss of a batch of unrolls, and its metrics (the gradient norm is not known here: NaN)."""
    output, _ = agent(batch.frame, batch.reward, batch.reset, batch.state)
    logits, values = output.logits[:-1], output.value[:-1]
    # The reward for the action at t arrives with frame t + 1, and so does the news that it ended the episode.
    rewards = batch.reward[1:].clamp(-config.reward_clip, config.reward_clip)
    discounts = config.discount * (~batch.reset[1:]).float()
    behaviour_nll = losses.action_negative_log_likelihood(batch.behaviour, batch.action)
    target_nll = losses.action_negative_log_likelihood(logits.detach(), batch.action)
    log_rhos = behaviour_nll - target_nll
    targets = vtrace(log_rhos, discounts, rewards, values.detach(), output.value[-1].detach())

    policy = losses.policy_gradient_loss(logits, batch.action, targets.advantages)
    baseline = losses.baseline_loss(values, targets.vs)
    negative_entropy = losses.entropy_loss(logits)
    loss = policy + config.baseline_cost * baseline + config.entropy_cost * negative_entropy

    steps = batch.action.numel()
    rhos = log_rhos.exp()
    metrics = LearnerMetrics(
        total_loss=loss.detach() / steps,
        policy_loss=policy.detach() / steps,
        baseline_loss=baseline.detach() / steps,
        entropy=-negative_entropy.detach() / steps,
        value_mean=values.detach().mean(),
        value_explained_variance=1
        - (targets.vs - values.detach()).var(correction=0) / targets.vs.var(correction=0).clamp(min=1e-8),
        gradient_norm=torch.full((), float("nan")),
        update_skipped=torch.zeros(()),
        importance_weight_mean=rhos.mean(),
        importance_weight_clipped=(rhos > 1 + 1e-3).float().mean(),  # beyond rounding
        policy_lag=version - batch.version.float().mean(),
    )
    return loss, metrics
