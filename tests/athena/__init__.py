"""Athena's engine, Trino, over the tables as Terraform declares them: `make test-athena`, apart from `make test`."""
