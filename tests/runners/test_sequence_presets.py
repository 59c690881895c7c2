"""Presets of supervised tasks: they build the published models, and may have settings for one task or one core."""

import pytest
import torch

from rfwp.runners.settings.options import config_from_words
from rfwp.runners.settings.presets import sequence_presets

CODE, LISTOPS, WIKI = "code_execution", "listops", "language_model"
VOCABULARY = {CODE: (22, 25), LISTOPS: (14, 10), WIKI: (267_735, 267_735)}
PUBLISHED = [  # weights of the published models; -8 never occurs in the published programs, so they have 25 classes
    (CODE, "linear_transformer", 3_167_001),
    (CODE, "delta_net", 3_183_385),
    (CODE, "rdn", 3_233_561),
    (CODE, "delta_rnn", 3_724_057),
    (LISTOPS, "linear_transformer", 3_161_098),
    (LISTOPS, "rdn", 3_227_658),
    (WIKI, "linear_transformer", 44_018_394),
    (WIKI, "delta_net", 44_034_778),
    (WIKI, "rdn", 44_135_130),
    (WIKI, "delta_rnn", 44_575_450),
    (WIKI, "delta_delta_net", 44_575_450),
    (WIKI, "delta_mlp", 46_148_826),
    (WIKI, "delta_lstm", 47_262_426),
]


@pytest.mark.parametrize(("task", "core", "weights"), PUBLISHED)
def test_the_paper_preset_builds_the_published_model(task, core, weights):
    config = config_from_words(["--task", task, "--core", core, "--preset", "paper"])
    with torch.device("meta"):
        model = config.model.build(config.core, *VOCABULARY[task])
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


def test_a_task_without_presets_takes_the_general_ones():
    presets = sequence_presets({"task": {"name": "mine"}, "core": {"name": "lstm"}}).settings
    assert [preset["task"] for preset in presets.values()] == [{"name": "mine"}] * 2
    assert presets["cpu"]["core"] == {"name": "lstm", "hidden_size": 64, "num_layers": 2}


def test_a_core_may_have_its_own_settings_in_any_section_of_a_preset():
    learners = [
        sequence_presets({"task": {"name": "language_model"}, "core": {"name": core}}).settings["cpu"]["learner"]
        for core in ("transformer", "delta_net")
    ]
    assert [learner.pop("context") for learner in learners] == ["segment", "carried"]
    assert learners[0] == learners[1] != {}
