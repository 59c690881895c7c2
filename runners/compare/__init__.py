"""`rfwp compare`: a grid of runs, started side by side and resumed until all are done."""
