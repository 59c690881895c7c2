"""Reinforcement learning for agents with memory."""

from pathlib import Path

__version__ = "0.1.0"

# In an editable install, setuptools maps every folder of the checkout except cuda/, which has no __init__.py because
# NVIDIA's packages use a namespace of that name. Python finds it if the checkout itself is on the search path.
_CHECKOUT = Path(__file__).parents[2]
if (_CHECKOUT / "cuda" / "kernels").is_dir():
    __path__.append(str(_CHECKOUT))
