"""Gymnasium's spaces as the fields of an observation and the choices of an action."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rfwp.envs.spaces import Field

IMAGE_SIDE = 32  # pixels; a smaller grid of bytes holds codes rather than a picture, as MiniGrid's 7 x 7 cells do
Arrange = Callable[[NDArray[Any]], NDArray[Any]]
Categories = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class FieldReader:
    """Reads one field from the observations of environments."""

    def __init__(self, name: str, path: tuple[Any, ...], space: spaces.Box | Categories) -> None:
        """Take the keys that lead to the field, and its space."""
        self._path = path
        self._declared = space
        self._arrange: Arrange
        if isinstance(space, spaces.Box):
            image = _image(space)
            self._arrange, self._kinds = image or _rows, "u" if image else "biuf"
            shape = self._arrange(np.empty((1, *space.shape), np.uint8)).shape[1:]
            self.field = Field(name, "image" if image else "vector", shape)
        else:
            sizes, starts = _categories(space)
            self._arrange, self._kinds = lambda values: _rows(values) - starts, "biu"
            self.field = Field(name, "categories", (len(sizes),), sizes)

    def __call__(self, observations: Sequence[Any]) -> NDArray[Any]:
        """Return the field's numbers in E observations, [E, *shape]. Raise ValueError if one is not as declared."""
        parts = [_part(observation, self._path, self.field.name) for observation in observations]
        try:
            values = np.array(parts)
            fits = self._fits(values[0])
        except ValueError:  # shapes differ
            fits = False
        if not fits:
            values = np.stack([self._checked(np.asarray(part)) for part in parts])
        return self._arrange(values).astype(self.field.dtype, copy=False)

    def _fits(self, value: NDArray[Any]) -> bool:
        return value.shape == self._declared.shape and value.dtype.kind in self._kinds

    def _checked(self, value: NDArray[Any]) -> NDArray[Any]:
        if not self._fits(value):
            got = f"{value.dtype} {list(value.shape)}"
            raise ValueError(f"observation: {self.field.name} is {got}; declared: {self._declared}")
        return value.astype(self.field.dtype)


class Constant(NamedTuple):
    """A field that always has the same value, so that it need not be read."""

    name: str
    path: tuple[Any, ...]
    value: str

    def check(self, observation: Any) -> None:
        """Raise ValueError if an observation has another value."""
        text = str(_part(observation, self.path, self.name))
        if text != self.value:
            raise ValueError(
                f"keys: {self.name} is text that cannot be read: {text!r} here, {self.value!r} elsewhere; name the"
                " fields to keep, without it"
            )


def read_fields(space: spaces.Space[Any], keys: Sequence[str]) -> tuple[list[FieldReader], list[Constant]]:
    """Return a reader for every field below one of `keys`, by default for all.

    Fields of nested spaces are named by their keys, joined by "/". Text is left out where its space has only one.
    Raise ValueError for a field that cannot be read and for unknown keys.
    """
    leaves = dict(_leaves("", (), space))
    unknown = [key for key in keys if not any(_below(name, key) for name in leaves)]
    if unknown:
        raise ValueError(f"keys: got {unknown[0]!r}; allowed: {', '.join(leaves)}")
    readers, constants, unreadable = [], [], []
    for name, (path, leaf) in leaves.items():
        if keys and not any(_below(name, key) for key in keys):
            continue
        if isinstance(leaf, spaces.Box | Categories):
            readers.append(FieldReader(name, path, leaf))
        elif len(texts := {str(leaf.sample()) for _ in range(16)}) == 1:
            constants.append(Constant(name, path, texts.pop()))
        else:
            unreadable.append(name)
    if unreadable:
        kind, others = type(leaves[unreadable[0]][1]).__name__, ", ".join(reader.field.name for reader in readers)
        instead = f"leave it out: --env.keys '[{others}]'" if others else "it needs a wrapper (env.wrappers)"
        raise ValueError(f"keys: {unreadable[0]} is of the space {kind}, which cannot be read; {instead}")
    if not sum(int(np.prod(reader.field.shape)) for reader in readers):
        raise ValueError(f"id: its observations have no numbers: {space}")
    return readers, constants


def _leaves(
    name: str, path: tuple[Any, ...], space: spaces.Space[Any]
) -> Iterator[tuple[str, tuple[tuple[Any, ...], spaces.Space[Any]]]]:
    """Yield the name of every field with the keys that lead to it and its space, in the order of the space."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _leaves(f"{name}/{key}".removeprefix("/"), (*path, key), part)
    else:
        yield name or "observation", (path, space)


def _part(observation: Any, path: tuple[Any, ...], name: str) -> Any:
    try:
        for key in path:
            observation = observation[key]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"observation: it has no field {name}, which its space declares") from None
    return observation


def _below(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}/")


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)


def _image(space: spaces.Box) -> Arrange | None:
    """Return the function that puts the channels of images [E, ...] first; None if the space is not one of images."""
    match space.shape:
        case _ if space.dtype != np.uint8:
            return None
        case (rows, columns) if min(rows, columns) >= IMAGE_SIDE:
            return lambda images: images[:, None]
        case (rows, columns, 1 | 3 | 4) if min(rows, columns) >= IMAGE_SIDE:
            return lambda images: images.transpose(0, 3, 1, 2)
        case (1 | 3 | 4, rows, columns) if min(rows, columns) >= IMAGE_SIDE:
            return lambda images: images
    return None


def _categories(space: Categories) -> tuple[tuple[int, ...], NDArray[np.int64]]:
    """Return the number of values of each category, and the smallest value of each, [K]."""
    match space:
        case spaces.Discrete():
            return (int(space.n),), np.array([space.start], np.int64)
        case spaces.MultiDiscrete():
            return tuple(map(int, space.nvec.ravel())), space.start.ravel().astype(np.int64)
    return (2,) * int(np.prod(space.shape)), np.zeros(int(np.prod(space.shape)), np.int64)


class Actions(NamedTuple):
    """The choices that an action consists of."""

    names: tuple[tuple[str, ...], ...]  # of each choice's values
    convert: Callable[[NDArray[np.int64]], list[Any]]  # [E, K] one index per choice -> an action of each environment


def read_actions(space: spaces.Space[Any], bins: int | None, names: Sequence[str] = ()) -> Actions:
    """Return the choices of an action space. Raise ValueError for one that cannot be read.

    Each number of a Box is a choice among `bins` values, evenly spaced from its lowest to its highest one. `names`: of
    the values of a Discrete space.
    """
    match space:
        case spaces.Discrete():
            first, count = int(space.start), int(space.n)
            found = tuple(names) if len(names) == count else tuple(str(first + index) for index in range(count))
            return Actions((found,), lambda choices: list(first + choices[:, 0]))
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            sizes, starts = _categories(space)
            numbered = tuple(
                tuple(str(first + index) for index in range(size))
                for first, size in zip(starts.tolist(), sizes, strict=True)
            )
            return Actions(numbered, lambda choices: _shaped(choices + starts, space))
        case spaces.Box():
            return _binned(space, bins)
    raise ValueError(
        f"id: its actions are {space}; allowed: Discrete, MultiDiscrete, MultiBinary, and Box with env.action_bins"
    )


def _shaped(numbers: NDArray[Any], space: spaces.Space[Any]) -> list[NDArray[Any]]:
    """Return the rows of numbers [E, K] as actions of a space."""
    return list(numbers.reshape(-1, *(space.shape or ())).astype(space.dtype))


def _binned(space: spaces.Box, bins: int | None) -> Actions:
    if bins is None:
        raise ValueError(
            f"action_bins: got null, but actions are {space}; allowed: the number of values to cut each number of an"
            " action into, such as 5"
        )
    if not space.is_bounded():
        raise ValueError(
            f"action_bins: got {bins}, but actions are {space}, which has no bounds; allowed: with bounds, as from"
            " gymnasium.wrappers:ClipAction or RescaleAction in env.wrappers"
        )
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    values = np.linspace(low, high, bins, axis=1)  # [K, bins]
    if np.issubdtype(space.dtype, np.integer):
        values = values.round()
    rows = np.arange(len(values))
    return Actions(
        tuple(tuple(f"{value:.3g}" for value in row) for row in values),
        lambda choices: _shaped(values[rows, choices], space),
    )
