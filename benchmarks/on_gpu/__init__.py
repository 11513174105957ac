"""The sections of benchmarks/gpu.py: what a GPU has to confirm, one file each."""
