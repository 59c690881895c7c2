"""Comparisons that tests ask for."""

from rfwp.runners.compare.comparison import make_comparison


def asked(**changes):
    words = {"envs": ["recall", "ALE/Pong-v5"], "cores": ["gru", "rdn"], "seeds": 2, "steps": 9} | changes
    return make_comparison(**{"presets": [None] * len(words["envs"]), "settings": [], **words})
