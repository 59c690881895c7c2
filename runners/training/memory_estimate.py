"""What a run takes: memory predicted before it starts, and named where it was not enough."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from rfwp.agents import slab
from rfwp.agents.trajectory import Trajectory
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import TrainConfig


def check_sizes(config: TrainConfig, agent: ActorCritic, num_processes: int, device: torch.device) -> int:
    """Bytes on the device that a run needs; UserError if they, or the slabs in shared memory, do not fit."""
    spec = config.env.spec()
    shape, num_actions = spec.observation_shape, len(spec.action_names)
    envs, batch, length = config.actors.envs, config.learner.batch_size, config.learner.unroll_length
    shared = num_processes * slab.num_bytes(envs // num_processes, shape)
    observations = f"{envs} environments with observations of {'x'.join(map(str, shape))}"
    resources.check_shared_memory(shared, f"actors.envs: {observations}")
    # Every group fills one unroll; others wait in the queue, and one or two are in the learner's hands.
    unrolls = envs * (1 + (config.learner.queue_size + 2) / config.actors.groups) + batch
    unroll = Trajectory.empty(length, 1, shape, num_actions, agent.initial_state(1, "meta"), "meta")
    needed = int(unrolls * num_bytes([*unroll[:-1], *unroll.state])) + batch * unroll_bytes(agent, shape, length + 1)
    needed += 5 * num_bytes(agent.parameters())  # weights, gradients, mean squares, those that act and those published
    sizes = (
        f"actors.envs, learner.batch_size, learner.unroll_length: {observations}, {batch} unrolls of {length} steps,"
        f" core {name_of(config.core)}"
    )
    resources.check_memory(needed, sizes, device)
    return needed


def unroll_bytes(agent: ActorCritic, observation_shape: tuple[int, int, int], length: int) -> int:
    """Bytes that encoder and core keep of an unroll of `length` frames for its backward pass.

    Measured, the core's over at most 32 steps, which is as many as any core takes at once.
    """
    device, sample = next(agent.parameters()).device, min(length, 32)

    def encode(frames: int) -> None:
        agent.encode(torch.zeros(frames, *observation_shape, dtype=torch.uint8, device=device))

    def remember(batch: int) -> None:
        features = torch.zeros(sample, batch, agent.encoder.output_size + 1, device=device)
        first = torch.zeros(sample, batch, dtype=torch.bool, device=device)
        agent.core(features, agent.initial_state(batch, device), first)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout draws
        return length * further_bytes(encode) + length * further_bytes(remember) // sample


def further_bytes(forward: Callable[[int], object]) -> int:
    """Bytes that a forward pass over two keeps for its backward pass beyond one over one: weights count in neither."""
    return kept_bytes(partial(forward, 2)) - kept_bytes(partial(forward, 1))


def kept_bytes(forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps of a forward pass for its backward pass, each piece of memory once."""
    kept: dict[int, torch.UntypedStorage] = {}  # all alive until they are counted: no two share an address

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all of them together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is of an allocator: PyTorch's, CUDA's own (a context, pinned memory), cuBLAS's or cuDNN's."""
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # the last ones are the CPU's
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(each in str(error) for each in words)


@contextlib.contextmanager
def sizes_named(config: TrainConfig) -> Iterator[None]:
    """Turns running out of the device's memory into a UserError with the sizes that did not fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        learner, envs = config.learner, config.actors.envs
        raise UserError(
            f"out of memory with actors.envs {envs}, learner.batch_size {learner.batch_size}, learner.unroll_length"
            f" {learner.unroll_length} and core {name_of(config.core)}: use smaller ones ({str(error).strip()[:200]})"
        ) from None
