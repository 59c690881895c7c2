"""The overlay draws what the forward pass that acted said, for every core, without flicker and inside its panels."""

from itertools import combinations

import numpy as np
import pytest
import torch

from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.core import cleared
from rfwp.models.encoders import shallow
from rfwp.models.memory_view import Matrices, MemoryView, Vector
from rfwp.models.observation_encoder import ObservationEncoder
from rfwp.runners.build import build_agent
from rfwp.runners.evaluation.rollout import rollout
from rfwp.runners.film import canvas, memory_panel
from rfwp.runners.film.canvas import AMBER, BLUE, Box
from rfwp.runners.film.overlay import HEIGHT, WIDTH, Overlay, Thought
from rfwp.runners.film.picture import MemoryPicture
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings import components

ACTIONS = (("NOOP", "FIRE", "RIGHT", "LEFT"),)


def thought(memory=(), **fields) -> Thought:
    policy = np.array([0.1, 0.6, 0.2, 0.1])
    defaults = {"policy": policy, "action": (1,), "value": 0.5, "reward": 0.0, "opens": False, "episode_over": False}
    return Thought(**defaults | fields, memory=list(memory))


def overlay(actions=ACTIONS) -> Overlay:
    return Overlay("breakout", "rdn", actions, (480, 630))


def test_what_is_drawn_is_what_acted(atari_run, monkeypatch):
    folder = RunFolder(atari_run)
    config = folder.read_config()
    agent = build_agent(config, torch.device("cpu")).eval()
    drawn, passes = [], []
    monkeypatch.setattr(Overlay, "draw", lambda self, thought: drawn.append(thought) or self._image)
    agent.register_forward_hook(lambda module, inputs, output: passes.append((inputs, output)))
    acted = []
    with config.env.renderer() as screen:
        screen.reset(0)
        with MemoryPicture(screen, agent, "", "") as picture:
            for transition in rollout(agent, screen, "sampled", 0):
                list(picture.frames(transition))
                acted.append(transition)
                if len(acted) == 60:
                    break
    assert any(each.opens for each in drawn)  # a life was lost: the state began anew
    for shown, transition, (inputs, (output, after)) in zip(drawn, acted, passes, strict=True):
        np.testing.assert_array_equal(shown.policy, output.logits[0, 0].softmax(-1).numpy())
        assert (shown.action, shown.value) == ((transition.action[0, 0],), output.value.item())
        assert (shown.reward, shown.opens) == (transition.step.reward[0], transition.step.first[0])
        before = cleared(inputs[1], inputs[0].first[0])
        for entry, old, new in zip(shown.memory, before, after, strict=True):
            held = entry.weights if isinstance(entry, Matrices) else entry.values
            np.testing.assert_array_equal(held.ravel(), new.ravel().numpy())
            assert np.linalg.norm(entry.change) == pytest.approx((new - old).norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", components.names("core"))
def test_every_core_is_drawn_beside_the_game_and_not_over_it(name):
    torch.manual_seed(0)
    encoder = ObservationEncoder([shallow.Config().build((4, 84, 84))], 256)
    agent = ActorCritic(encoder, components.config_class("core", name)(), (4,)).eval()
    picture = overlay()
    state, panels = agent.initial_state(1), []
    with MemoryView(agent.core) as view, torch.no_grad():
        for _ in range(3):
            frame = torch.randint(256, (1, 1, 4, 84, 84), dtype=torch.uint8)
            rest = torch.zeros(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool)
            _, state = agent(AgentInput((frame,), *rest), state)
            image = picture.draw(thought(view.read()))
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert (picture.game.of(image) == canvas.BACKGROUND).all()
            panels.append(image[262:688, 544:1248].copy())  # of the memory
    assert (panels[0] == panels[2]).all() == (name == "feedforward")
    edge = np.concatenate([image[-20:].reshape(-1, 3), image[:, -20:].reshape(-1, 3)])
    assert (edge == canvas.BACKGROUND).all()


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 32, 32)] * 2,
        [(4, 100, 32)] * 2,
        [(12, 32, 32)] * 4,
        [(4, 128, 32), (4, 32, 128)] * 2,
        [(1, 256, 270)] * 2,
        [(1, 1024, 270)],
        [(16, 64, 128)] * 8,
    ],
)
def test_heat_maps_and_curves_lie_inside_the_panel_and_not_on_each_other(shapes):
    panel = Box(10, 20, 676, 376)
    places = memory_panel._lay_out(panel, shapes)
    boxes = [box for place in places for box in (place.label, *place.maps, place.key, place.plots)]
    for box in boxes:
        assert box.width > 0
        assert box.height > 0
        assert panel.x <= box.x <= box.right <= panel.right
        assert panel.y <= box.y <= box.bottom <= panel.bottom
    for one, other in combinations(boxes, 2):
        apart = one.right <= other.x or other.right <= one.x or one.bottom <= other.y or other.bottom <= one.y
        assert apart, (one, other)


def test_bars_are_as_long_as_the_probabilities_and_the_chosen_one_is_lit():
    image = overlay().draw(thought())
    panel = image[58:246, 544:888]
    lengths = {colour: (panel == colour).all(-1).sum(1).max() for colour in (AMBER, BLUE)}
    assert lengths[AMBER] / lengths[BLUE] == pytest.approx(0.6 / 0.2, rel=0.05)


def test_of_every_choice_of_an_action_one_bar_is_lit():
    choices = (("LEFT", "RIGHT"), ("UP", "DOWN", "STAY"))
    policy = np.array([0.25, 0.75, 0.2, 0.3, 0.5])
    image = overlay(choices).draw(thought(policy=policy, action=(1, 0)))
    lengths = (image[58:246, 544:888] == AMBER).all(-1).sum(1)  # lit pixels of every row
    first, second = (int(lengths[start]) for start in np.flatnonzero((lengths > 0) & (np.roll(lengths, 1) == 0)))
    assert first / second == pytest.approx(0.75 / 0.2, rel=0.05)


def test_the_bars_of_many_actions_stand_side_by_side_and_the_highest_fills_the_panel():
    policy = np.full(40, 0.01)
    policy[[7, 30]] = 0.41, 0.205
    image = overlay((tuple(map(str, range(40))),)).draw(thought(policy=policy, action=(30,)))
    panel = image[58 + 38 : 246 - 12, 544 + 14 : 888 - 14]
    lit, others = ((panel == colour).all(-1).sum(0) for colour in (AMBER, BLUE))
    assert others.max() == len(panel)
    assert lit.max() / others.max() == pytest.approx(0.5, rel=0.02)
    assert np.median(others[others > 0]) / len(panel) == pytest.approx(0.01 / 0.41, rel=0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_weights_that_have_become_useless_are_drawn_all_the_same(bad):
    memory = [
        Matrices("W", np.full((4, 8, 8), bad, np.float32), np.full(4, bad, np.float32), np.full((4, 1), np.nan)),
    ]
    picture = overlay()
    for _ in range(3):
        picture.draw(thought(memory, value=float(bad), policy=np.full(4, np.nan)))
        overlay().draw(thought([Vector("h", np.full(8, bad, np.float32), bad)]))


def test_scales_stay_put_while_the_weights_move_a_little():
    picture, scales, random = overlay(), set(), np.random.default_rng(0)
    for _ in range(50):
        weights = random.normal(size=(4, 32, 32)).astype(np.float32)
        picture.draw(thought([Matrices("W", weights, np.ones(4, np.float32), None)]))
        scales.add(canvas.round_up(max(picture._memory._blocks[0]._largest), memory_panel._STEPS))
    assert len(scales) == 1


def test_the_colours_of_weights_are_dark_at_zero_and_evenly_lighter_on_both_sides():
    linear = ((canvas.diverging_map() / 255 + 0.055) / 1.055) ** 2.4
    lightness = (linear @ [0.2126, 0.7152, 0.0722]) ** (1 / 3)
    blue, amber = np.diff(lightness[127::-1]), np.diff(lightness[127:])
    for steps in (blue, amber):
        assert (steps > 0).all()
        assert steps.std() < 0.5 * steps.mean()
