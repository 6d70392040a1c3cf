"""Tests of what needs requirements-gpu.lock: `make test-gpu`."""
