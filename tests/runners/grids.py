"""Comparisons that tests ask for."""

from rfwp.runners.compare.comparison import make_comparison


def asked(**changes):
    words = {"option": "envs", "subjects": ["recall", "ALE/Pong-v5"], "cores": ["gru", "rdn"], "seeds": 2, "steps": 9}
    words |= changes
    return make_comparison(**{"presets": [None] * len(words["subjects"]), "settings": [], **words})
