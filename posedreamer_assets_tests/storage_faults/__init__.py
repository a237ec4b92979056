"""Faults that a store must survive: kills, rivals, full disks, failing object stores, damaged files."""
