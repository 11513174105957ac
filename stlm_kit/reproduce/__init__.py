"""Reproduction of results: study files, runs, their hashes and rows, and estimates of a run's cost."""
