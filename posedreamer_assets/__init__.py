"""Photorealistic images of people with exact SMPL-X labels, as a Dagster asset graph over Lance tables."""

__version__ = "0.2.0"
