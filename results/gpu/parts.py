"""Times the parts of an agent's update and acting step, paper preset, or of one recurrence, on a GPU.

python results/gpu/parts.py agent [CORE]
python results/gpu/parts.py recurrence [CORE]
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from rfwp.agents.graphs import graphed
from rfwp.agents.policy import GraphedPolicy
from rfwp.models.actor_critic import AgentInput
from rfwp.runners.bench.kernel_peers import kernel
from rfwp.runners.bench.kernels import SHAPES, both, build_core, problem_for
from rfwp.runners.bench.workloads import synthetic_batch
from rfwp.runners.build import build_system
from rfwp.runners.settings.options import config_from_words

UPDATES, CALLS = 20, 50


def milliseconds(function: Callable[[], object], calls: int = CALLS) -> str:
    """The mean of some calls after five others, and the part of it that the host spent on queueing them."""
    for _ in range(5):
        function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        function()
    queued = time.perf_counter()
    torch.cuda.synchronize()
    ended = time.perf_counter()
    return f"{1e3 * (ended - started) / calls:.3f} ms, host {1e3 * (queued - started) / calls:.3f} ms"


def actions_on_the_host(policy: GraphedPolicy, row: AgentInput) -> torch.Tensor:
    return policy.act(row)[0].cpu()


def print_kernels(function: Callable[[], object], calls: int) -> None:
    """Print the time that the GPU spends on each kernel, and how often it runs it, in one of some calls."""
    function()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(calls):
            function()
        torch.cuda.synchronize()
    spent, count = Counter[str](), Counter[str]()
    for event in profiled.events():
        spent[event.name] += event.time_range.elapsed_us()
        count[event.name] += 1
    for name, microseconds in spent.most_common(25):
        print(f"  {microseconds / calls:.1f} µs in {count[name] / calls:.0f}: {name[:100]}")


def recurrence(core: str) -> None:
    """Time one layer's recurrence, forward and backward."""
    device = torch.device("cuda")
    for steps, batch in SHAPES:
        built = build_core(core, "softmax", device)
        print(f"{core}, {steps} steps, {batch} sequences:")
        print_kernels(partial(both, kernel(built), problem_for(built, steps, batch, 0.0, device)), 10)


def agent(core: str) -> None:
    system = build_system(config_from_words(f"--preset paper --device cuda --core {core}".split()))
    batch, device = synthetic_batch(system), torch.device("cuda")
    frames = tuple(field.flatten(0, 1) for field in batch.observation)
    print("update:", milliseconds(lambda: system.update(batch), UPDATES))
    print(
        "encoder, forward and backward:", milliseconds(lambda: system.agent.encoder(frames).sum().backward(), UPDATES)
    )
    acting = system.agent.acting_copy()
    with torch.no_grad():
        for envs in (24, 64, 128):
            row = synthetic_batch(system, envs).inputs.map(lambda field: field[0])
            policy = GraphedPolicy(acting, envs, torch.Generator(device).manual_seed(0), system.config.env.spec())
            features = torch.randn(1, envs, acting.core_input_size, device=device)
            core_step = graphed(partial(acting.core, features, policy.state, row.first[None]), device)
            print(f"acting step of {envs} environments:", milliseconds(partial(policy.act, row)))
            print("  and its actions on the host:", milliseconds(partial(actions_on_the_host, policy, row)))
            print("  its core alone, all layers:", milliseconds(core_step))
    source = torch.randn(1 << 30, device=device)
    print("copying 4.3 GB on the device:", milliseconds(lambda: source.clone(), 10))
    matrix = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    print("8192 x 8192 matrix product in bfloat16, 1.1 TFLOP:", milliseconds(lambda: matrix @ matrix, 20))
    print("an operator:", milliseconds(row.first.logical_not_, 1000))
    print("kernels of an update:")
    print_kernels(lambda: system.update(batch), 3)
    print("kernels of an acting step of 128 environments:")
    print_kernels(partial(policy.act, row), 10)


if __name__ == "__main__":
    {"agent": agent, "recurrence": recurrence}[sys.argv[1]](*sys.argv[2:] or ["rdn"])
