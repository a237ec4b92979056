"""Exports as the loaders of other people read them, written from what those loaders are described to do."""
