"""The reproduction machine: study files, runs, their hashes and rows, and what a run will cost."""
