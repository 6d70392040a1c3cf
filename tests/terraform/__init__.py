"""Terraform without its registry: the schemas of the providers, and a double that serves them. See README.md here."""
