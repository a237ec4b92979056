"""The 2D pose student of "Learning to Train with Synthetic Humans": part affinity fields from real and synthetic people."""
