"""What a learner minimises: one objective a file, with its settings, its loss and its maths."""
