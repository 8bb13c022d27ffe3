"""Experiments on memory and latency; README.md says how each is run."""
