"""The manifest of a checkpoint: facts about it, and checksums of its files and of itself."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rfwp import __version__
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.files import is_count, is_number

MANIFEST = "manifest.json"
FORMAT = 6  # lower ones were those of earlier checkouts


@dataclass(frozen=True)
class Manifest:
    """Facts about a checkpoint."""

    steps: int
    score: float | None  # the checkpoint `best` has the highest; None: not known at this step
    metrics_bytes: int = 0  # length of metrics.jsonl at this checkpoint
    metrics_sha256: str = ""  # of those bytes; "": unknown
    format: int = FORMAT
    created: str = ""  # UTC
    written_by: str = ""  # the release of rfwp
    sha256: dict[str, str] | None = None  # of each file


def manifest_bytes(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """Return the contents of a manifest file, with the time, the release and checksums of the other files."""
    facts = {
        **asdict(manifest),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "written_by": f"rfwp {__version__}",
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    facts["sha256"][MANIFEST] = digest(facts)
    return (json.dumps(facts, indent=2) + "\n").encode()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raise UserError if it is missing, damaged or of an unsupported format."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            release = facts.get("written_by") or "the release that wrote it"
            raise UserError(
                f"checkpoint: {path} has format {facts['format']}; this release reads {FORMAT}: use {release}"
            )
        if facts["sha256"].pop(MANIFEST) != digest(facts):
            raise ValueError("its contents do not match their checksum")
        return _checked(Manifest(**facts))
    except FileNotFoundError:
        raise UserError(f"checkpoint: {path} is missing") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"checkpoint: {path} is damaged: {error}") from None


def digest(facts: dict[str, Any]) -> str:
    """Return the checksum of a manifest, computed without its own entry."""
    sums = {name: value for name, value in facts["sha256"].items() if name != MANIFEST}
    return hashlib.sha256(json.dumps({**facts, "sha256": sums}, sort_keys=True).encode()).hexdigest()


def _checked(manifest: Manifest) -> Manifest:
    sums, words = manifest.sha256, (manifest.metrics_sha256, manifest.created, manifest.written_by)
    allowed = {
        "steps": is_count(manifest.steps),
        "score": manifest.score is None or is_number(manifest.score),
        "metrics_bytes": is_count(manifest.metrics_bytes),
        "sha256": isinstance(sums, dict) and all(isinstance(each, str) for each in sums.values()),
        "metrics_sha256, created, written_by": all(isinstance(word, str) for word in words),
    }
    wrong = [name for name, fine in allowed.items() if not fine]
    if wrong:
        raise ValueError(f"{wrong[0]} has a value that is not allowed")
    return manifest
