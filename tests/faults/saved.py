"""A small run that is saved and resumed within this process."""

import json
from pathlib import Path

from rfwp.runners.runfolder.manifest import digest

TRAIN = (
    "train --env delayed_cue --core lstm --core.hidden_size 8 --encoder.size 8 --final_episodes 0"
    " --learner.batch_size 4 --actors.envs 8 --log_seconds 0.01"
).split()


def resume(path, steps="1200", *words):
    return ["train", "--run", str(path), "--total_steps", steps, *words]


def checkpoints(run):
    return sorted((run / "checkpoints").glob("step-*"))


def edit_manifest(run: Path, **facts: object) -> None:
    """With a checksum that fits, as whoever can write to the folder can write it."""
    path = checkpoints(run)[-1] / "manifest.json"
    manifest = json.loads(path.read_text()) | facts
    manifest["sha256"] |= {"manifest.json": digest(manifest)}
    path.write_text(json.dumps(manifest))
