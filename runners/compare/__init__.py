"""`rfwp compare`: a grid of runs, started in parallel and resumed until all are done."""
