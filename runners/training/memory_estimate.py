"""Estimates the memory of a run before it starts, and explains out-of-memory errors."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from rfwp.agents import slab
from rfwp.agents.supervised import Supervised
from rfwp.agents.trajectory import Trajectory, allocate
from rfwp.envs.vector_env import EnvSpec
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import AgentRunConfig, RunConfig, SequenceRunConfig


def check_agent_sizes(config: AgentRunConfig, agent: ActorCritic, num_processes: int, device: torch.device) -> int:
    """Return the bytes that training an agent needs on the device.

    Raise UserError if they do not fit there, or the slabs do not fit in shared memory.
    """
    spec = config.env.spec()
    envs, batch, length = config.actors.envs, config.learner.batch_size, config.learner.unroll_length
    shared = slab.num_bytes(envs, spec)
    shapes = " and ".join("x".join(map(str, field.shape)) for field in spec.observation)
    observations = f"{envs} environments with observations of {shapes}"
    resources.check_shared_memory(shared, f"actors.envs: {observations}")
    # Every group fills one trajectory; more wait in the queue, and the learner holds one or two.
    unrolls = envs * (1 + (config.learner.queue_size + 2) / config.actors.groups) + batch
    unroll = Trajectory.empty(length, 1, spec, agent.initial_state(1, "meta"), "meta")
    needed = int(unrolls * num_bytes(unroll.tensors)) + batch * unroll_bytes(agent, spec, length + 1)
    needed += 5 * num_bytes(agent.parameters())  # weights, gradients, mean squares, acting and published copies
    sizes = (
        f"actors.envs, learner.batch_size, learner.unroll_length: {observations}, {batch} unrolls of {length} steps,"
        f" core {name_of(config.core)}"
    )
    resources.check_memory(needed, sizes, device)
    return needed


def check_sequence_sizes(config: SequenceRunConfig, system: Supervised) -> int:
    """Return the bytes that training a sequence model needs on the device. Raise UserError if they do not fit there."""
    batch, sizes = system.batches[0].to(system.device), "learner.batch_size, learner.segment_length"
    length, rows = batch.token.shape
    sample = min(length, 32)

    def learn(rows: int) -> None:
        state = system.model.initial_state(rows)
        config.objective.loss(system.model, batch.sample(sample, rows, state), 0)

    with torch.random.fork_rng([system.device] if system.device.type == "cuda" else []):  # dropout draws
        needed = rows * length * further_bytes(learn) // sample
    needed += 4 * num_bytes(system.model.parameters())  # weights, gradients, both means of Adam
    names = f"{sizes}: {rows} rows of {length} tokens, core {name_of(config.core)}"
    resources.check_memory(needed, names, system.device)
    return needed


def unroll_bytes(agent: ActorCritic, spec: EnvSpec, length: int) -> int:
    """Return the bytes that encoder and core save for the backward pass of an unroll of `length` observations.

    Measured. The core is measured over at most 32 steps, the most that any core takes at once.
    """
    device, sample = next(agent.parameters()).device, min(length, 32)

    def encode(frames: int) -> None:
        agent.encoder(allocate(torch.zeros, spec, (frames,), device).observation)

    def remember(batch: int) -> None:
        features = torch.zeros(sample, batch, agent.core_input_size, device=device)
        first = torch.zeros(sample, batch, dtype=torch.bool, device=device)
        agent.core(features, agent.initial_state(batch, device), first)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout draws
        return length * further_bytes(encode) + length * further_bytes(remember) // sample


def further_bytes(forward: Callable[[int], object]) -> int:
    """Return activation bytes per extra sample: memory saved for backward with 2 minus 1, so weights cancel out."""
    return kept_bytes(partial(forward, 2)) - kept_bytes(partial(forward, 1))


def kept_bytes(forward: Callable[[], object]) -> int:
    """Return the bytes that autograd saves in a forward pass, counting each storage once."""
    kept: dict[int, torch.UntypedStorage] = {}  # kept alive until counted, so that no two share an address

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the total bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def is_out_of_memory(error: Exception) -> bool:
    """Return True for an allocation failure of PyTorch, CUDA (a context, pinned memory), cuBLAS or cuDNN."""
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # the last is from the CPU
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(each in str(error) for each in words)


@contextlib.contextmanager
def sizes_named(config: RunConfig) -> Iterator[None]:
    """Turn an out-of-memory error of the device into a UserError that names the settings that matter."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory with {config.sizes}: use smaller ones ({str(error).strip()[:200]})") from None
