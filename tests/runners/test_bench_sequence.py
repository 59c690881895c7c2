"""`rfwp bench sequence`."""

import json

import numpy as np
import pytest
from sequence_runs import LISTS, words_for

from rfwp.agents.supervised import Supervised
from rfwp.runners.bench.sequence import KEYS, pad
from rfwp.runners.cli import main
from rfwp.runners.settings.config import sequence_config
from rfwp.runners.settings.options import config_from_words

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_benchmark_pads_the_same_sequences_and_records_every_key(tmp_path, capsys):
    config = sequence_config(config_from_words(LISTS))
    system = Supervised(config)
    batch = next(iter(system)).batch
    padded = pad(system.data.train, batch, system)
    assert padded.token.shape == (
        max(len(row) for row in np.split(system.data.train.token, system.data.train.start)),
        10,
    )
    losses = [config.objective.loss(system.model, each, 0).value.item() for each in (batch, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for kind in ("lists", "text"):
        words = ["bench", "sequence", *words_for(kind, tmp_path), "--seconds", "0.01", "--json", "-"]
        assert main(words) == 0
        result = json.loads(capsys.readouterr().out)
        assert result.keys() == KEYS.keys()
        assert (result["packing_gain"] is None) == (kind == "text")
    assert main(["bench", "sequence", *LISTS, "--seconds", "0.01"]) == 0
    assert "gain of packing" in capsys.readouterr().out
