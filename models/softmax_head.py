"""Softmax over many classes, full or adaptive (Grave et al. 2017), with weights that an embedding may share."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax


class SoftmaxHead(nn.Module):
    """p(c | h) = softmax(W h + b) over all classes.

    With cut-offs, the classes from the first cut-off on form clusters: p(c | h) = p(cluster | h) p(c | cluster, h), and
    the first softmax is over the classes before the first cut-off and the clusters. Rare classes then cost little, if
    they come last. Unlike `nn.AdaptiveLogSoftmaxWithLoss`, the clusters have biases and no projections, so that W can
    be the embedding of the same classes.
    """

    def __init__(self, weight: Tensor, cutoffs: tuple[int, ...] = ()) -> None:
        """Build the head on the parameter W [classes, D]. cutoffs: rising indices of classes."""
        super().__init__()
        classes, size = weight.shape
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(classes))
        self.clusters = nn.Linear(size, len(cutoffs)) if cutoffs else None
        self._first, *tails = pairwise((0, *cutoffs, classes))
        self._tails = tails

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Return log p(target | hidden): hidden [N, D], int64 target [N] -> [N]."""
        first = self._log_first(hidden)
        column = target
        for number, (start, stop) in enumerate(self._tails):
            column = torch.where((target >= start) & (target < stop), self._first[1] + number, column)
        likelihood = first.gather(1, column.unsqueeze(1)).squeeze(1)
        for start, stop in self._tails:
            rows = ((target >= start) & (target < stop)).nonzero().squeeze(1)
            within = self._log_within(hidden[rows], start, stop).gather(1, (target[rows] - start).unsqueeze(1))
            likelihood = likelihood.index_add(0, rows, within.squeeze(1))
        return likelihood

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """Return log p of every class: hidden [N, D] -> [N, classes]."""
        first, *clusters = self._log_first(hidden).split_with_sizes([self._first[1]] + [1] * len(self._tails), 1)
        tails = zip(self._tails, clusters, strict=True)
        return torch.cat([first, *(self._log_within(hidden, *tail) + cluster for tail, cluster in tails)], 1)

    def _log_first(self, hidden: Tensor) -> Tensor:
        """Return log p of the classes before the first cut-off and of the clusters."""
        start, stop = self._first
        logits = linear(hidden, self.weight[start:stop], self.bias[start:stop])
        if self.clusters is not None:
            logits = torch.cat([logits, self.clusters(hidden)], 1)
        return log_softmax(logits, 1)

    def _log_within(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Return log p(c | cluster, h) of the classes of one cluster."""
        return log_softmax(linear(hidden, self.weight[start:stop], self.bias[start:stop]), 1)
