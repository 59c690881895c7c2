"""`rfwp train --profile`: a trace of some updates, for Perfetto or chrome://tracing."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UP = 5  # updates before the trace; the first ones allocate and choose algorithms


class Profiler:
    """Traces `updates` updates after WARM_UP others: operators and phases of all threads."""

    def __init__(self, path: Path, updates: int, tell: Callable[[str], None]) -> None:
        """Pass the path of the trace to `tell` once it is written. With 0 updates there is no trace."""
        self.path = path
        self.updates = updates
        self._tell = tell
        self._done = 0  # updates
        self._profiler: profile | None = None

    def step(self) -> None:
        """Count an update. Call it after every update, in the learner's thread."""
        self._done += 1
        if self._done == WARM_UP and self.updates:
            self._start()
        elif self._done == WARM_UP + self.updates:
            self.finish()

    def finish(self) -> None:
        """Write the trace if one is being recorded, even if the run ends early."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        temporary = self.path.with_name(f".{self.path.name}")
        try:
            profiler.export_chrome_trace(str(temporary))
            temporary.rename(self.path)
        except (OSError, RuntimeError) as error:  # a full disk must not end the run
            temporary.unlink(missing_ok=True)
            self._tell(f"the profile cannot be written: {error}")
            return
        self._tell(f"profile of {self._done - WARM_UP} updates: {self.path}; open it at https://ui.perfetto.dev")

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        from torch._C._profiler import _ExperimentalConfig

        # profile_all_threads includes the collector's thread, which started earlier.
        try:
            everywhere = _ExperimentalConfig(profile_all_threads=True, trace_only=True)
        except TypeError:  # PyTorch before 2.13 lacks trace_only, which saves time at the end
            everywhere = _ExperimentalConfig(profile_all_threads=True)
        self._profiler = profile(activities=activities, experimental_config=everywhere)
        self._profiler.start()
