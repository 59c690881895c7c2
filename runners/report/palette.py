"""The style of all figures: colours and markers of the cores, and the style of the axes."""

from typing import Any, NamedTuple

# Placeholders in the figures; the page replaces them by its own light or dark colours.
INK, MUTED, RULE = "#1c1b19", "#6f6b64", "#dcd8d0"


class Mark(NamedTuple):
    """How an agent is drawn in every figure."""

    light: str  # on a light page and in separate figures
    dark: str
    marker: str
    dashes: tuple[float, ...]  # of its lines; (): solid


# Okabe and Ito's colours first, which suit colour-blind readers; the markers differ as well.
CORES = {
    "feedforward": ("#767676", "#a8a8a8", "X"),
    "lstm": ("#0072b2", "#58aee6", "s"),
    "gru": ("#3d9fd3", "#9bd3f4", "D"),
    "transformer": ("#1f2937", "#d7dde6", "8"),
    "rdn": ("#d55e00", "#ff8f45", "o"),
    "delta_net": ("#009e73", "#3fcf9f", "^"),
    "linear_transformer": ("#c46a9b", "#e79cc6", "v"),
    "delta_rnn": ("#c98500", "#f2b73f", "P"),
    "gated_delta_net": ("#6f7d00", "#b5c238", "<"),
    "delta_lstm": ("#6a4bb0", "#ab93ee", "p"),
    "delta_mlp": ("#8c510a", "#cf9650", "h"),
    "delta_delta_net": ("#01665e", "#5dbdb2", ">"),
    "srwm": ("#882255", "#d873a4", "*"),
}
OTHERS = (("#4b5563", "#b6bfcc", "d"), ("#a3231f", "#f0736e", "H"), ("#2f4b9a", "#8ea6f0", "d"))
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.5, 1.5), (6, 1.5, 1.5, 1.5))

STYLE: dict[Any, Any] = {  # matplotlib types every key
    "svg.fonttype": "none",  # text stays text, so it can be searched and uses the page's font
    "text.parse_math": False,  # show names literally
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def marks(agents: dict[str, str]) -> dict[str, Mark]:
    """Return a mark for each agent, given its core: the core's colour and marker; further agents are dashed."""
    unknown = sorted({core for core in agents.values() if core not in CORES})
    looks = CORES | {core: OTHERS[place % len(OTHERS)] for place, core in enumerate(unknown)}
    seen: dict[str, int] = {}
    found = {}
    for agent, core in agents.items():
        seen[core] = seen.get(core, -1) + 1
        found[agent] = Mark(*looks[core], DASHES[seen[core] % len(DASHES)])
    return found


def page_colours() -> dict[str, tuple[str, str]]:
    """Return the page's name and dark variant of every colour in the figures, by its light variant."""
    looks = [*CORES.values(), *OTHERS]
    return {light: (f"--series-{number}", dark) for number, (light, dark, _) in enumerate(looks)}
