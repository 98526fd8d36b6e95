"""The benchmarks of asynccore: see README.md beside this file."""
