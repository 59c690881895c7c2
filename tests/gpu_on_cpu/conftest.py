"""Leaves the tests of this folder to `make test-pretended-gpu`."""

import sys

collect_ignore_glob = [] if "pretended.plugin" in sys.modules else ["test_*.py"]
