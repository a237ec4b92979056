"""Who paints: this process, worker processes with a GPU each, or actors on a Ray cluster, whose models stay loaded."""
