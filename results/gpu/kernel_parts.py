"""Times the kernels of one recurrence of rdn, forward and backward: python results/gpu/kernel_parts.py"""

from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from rfwp.runners.bench.kernel_peers import kernel
from rfwp.runners.bench.kernels import SHAPES, both, build_core, problem_for

RUNS = 10


def main() -> None:
    device = torch.device("cuda")
    for steps, batch in SHAPES:
        core = build_core("rdn", "softmax", device)
        way, problem = kernel(core), problem_for(core, steps, batch, 0.0, device)
        both(way, problem)
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            for _ in range(RUNS):
                both(way, problem)
            torch.cuda.synchronize()
        spent, calls = Counter[str](), Counter[str]()
        for event in profiled.events():
            spent[event.name] += event.time_range.elapsed_us()
            calls[event.name] += 1
        print(f"{steps} steps, {batch} sequences: {sum(spent.values()) / RUNS:.1f} µs")
        for name, microseconds in spent.most_common():
            print(f"  {microseconds / RUNS:.1f} µs in {calls[name] / RUNS:.0f}: {name[:110]}")


if __name__ == "__main__":
    main()
