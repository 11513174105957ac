"""Runs on machines with several slices and on clusters: workers side by side, jobs of Slurm, where they stand."""
