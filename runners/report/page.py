"""The report as one self-contained HTML page."""

import base64
import re
from collections.abc import Sequence
from importlib import metadata, resources
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rfwp.runners.report import formats
from rfwp.runners.report.palette import INK, MUTED, RULE, marks, page_colours
from rfwp.runners.report.study import Study

LARGEST_CLIP = 2_500_000  # bytes of a video that is embedded in the page
LARGEST_CLIPS = 12_000_000  # bytes of all embedded videos
KINDS = {".mp4": "video/mp4", ".gif": "image/gif"}


class Clip(NamedTuple):
    """A video of a run, embedded in the page."""

    run: str
    name: str
    moving_picture: bool  # True for a GIF, which the page shows as an image
    address: str  # a data: URL


def render(
    study: Study,
    baseline: str,
    warnings: Sequence[str],
    tables: dict[str, formats.Table],
    figures: dict[str, str],
    shared: Sequence[str],
) -> str:
    """Render the page. `shared` are the tasks used in comparisons over environments."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    source = resources.files("rfwp.runners.report").joinpath("page.html").read_text(encoding="utf-8")
    clips, too_large = _clips(study)
    look, colours = marks(study.agents), page_colours()
    return environment.from_string(source).render(
        title=_title(study),
        summary=_summary(study),
        facts=_facts(study),
        warnings=warnings,
        baseline=baseline,
        words=study.words,
        step=study.kind.step,
        normalisation=study.normalisation(study.tasks),
        aggregated=study.normalisation(study.aggregated_tasks),
        mmer=study.has_mmer,
        sources="; ".join(
            dict.fromkeys(run.subject.reference_sources for run in study.runs if run.subject.reference_scores)
        ),
        several_agents=len(study.agents) > 1,
        shared=shared,
        tables=tables,
        figures={name: _coloured(svg) for name, svg in figures.items()},
        swatches={agent: colours[mark.light][0] for agent, mark in look.items()},
        colours=[(name, light, dark) for light, (name, dark) in colours.items()],
        downloads={name: _address(text, "text/plain") for name, text in downloads(tables).items()},
        clips=clips,
        too_large=too_large,
        text=formats.text,
        version=metadata.version("rfwp"),
    )


def downloads(tables: dict[str, formats.Table]) -> dict[str, str]:
    """Return the tables as files, by name."""
    return {
        "scores.csv": formats.as_csv(tables["scores"]),
        "runs.csv": formats.as_csv(tables["runs"]),
        "scores.md": formats.as_markdown(tables["by_title"]),
        "scores.tex": formats.as_latex(tables["by_title"]),
    }


def _title(study: Study) -> str:
    tasks = [task.replace("_", " ").capitalize() for task in study.tasks]
    subject = ", ".join(tasks) if len(tasks) <= 3 else f"{len(tasks)} tasks"
    agents = list(study.agents)
    if len(agents) > 4:
        return f"{len(agents)} agents on {subject}"
    return f"{_enumerated(agents)} on {subject}"


def _enumerated(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _summary(study: Study) -> str:
    """Say what was compared and how, in two sentences."""
    protocol = f" under protocol {' and '.join(study.protocols)}" if study.protocols else ""
    runs = f"{len(study.runs)} run{'s' if len(study.runs) > 1 else ''}"
    return f"{runs}{protocol}. Scores are {study.words.score}; intervals are 95 % bootstrap intervals over seeds."


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return the key figures of the study."""
    seeds = sorted({len(result.runs) for result in study.results})
    steps = [run.steps for run in study.runs]
    unit, length = study.time_unit
    trained = sum(float(np.nanmax(run.metrics["wall_seconds"], initial=0)) for run in study.runs) / length
    return [
        ("tasks", str(len(study.tasks))),
        ("agents", str(len(study.agents))),
        ("seeds", f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"),
        (f"{study.kind.step}s, longest run", _short(max(steps))),
        (f"{study.kind.step}s, all runs", _short(sum(steps))),
        (f"{unit} of training", f"{trained:,.1f}"),
    ]


def _short(count: int) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def _coloured(svg: str) -> Markup:
    """Make an SVG use the page's colours and full width."""
    names = {light: name for light, (name, _) in page_colours().items()}
    names |= {INK: "--ink", MUTED: "--muted", RULE: "--rule"}
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var({names[found[0]]})" if found[0] in names else found[0], svg)
    return Markup(re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", svg, count=1))


def _clips(study: Study) -> tuple[list[Clip], list[str]]:
    """Return the newest video of each run if it is small enough, and the paths of those that are not."""
    clips: list[Clip] = []
    too_large, room = [], LARGEST_CLIPS
    for run in study.runs:
        for path in run.videos[-1:]:
            size = path.stat().st_size
            if size > min(LARGEST_CLIP, room):
                too_large.append(f"{path} ({size / 1e6:,.1f} MB)")
                continue
            room -= size
            gif = path.suffix == ".gif"
            clips.append(Clip(study.name_of(run), path.stem, gif, _address(path.read_bytes(), KINDS[path.suffix])))
    return clips, too_large


def _address(content: str | bytes, kind: str) -> str:
    """Return a data: URL with the content."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"
