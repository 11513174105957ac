"""Runs on several GPU slices or on a cluster: parallel workers, Slurm jobs, and the progress of each run."""
