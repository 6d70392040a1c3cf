"""The decisions, as pure modules, and the jobs that carry them out: admission, lake, live."""
