"""A GPU that is pretended, so that what runs only on a GPU can be tested without one.

Its tensors say `cuda:0` and hold their numbers on the CPU, where PyTorch's operators and the project's kernels, built
by g++, compute them. What a GPU would refuse raises an error here: tensors of two devices in one operator, a host that
waits within a capture, random numbers in a graph from a generator that it does not know. Launches and waits are
counted. And where one stream uses what another one writes, without waiting for it, that is found every time, which on a
GPU takes luck.

Speed, memory, and what cuDNN and the driver do are not pretended.

`pytest -p pretended.plugin` uses it: it must be set up before PyTorch is imported.
"""
