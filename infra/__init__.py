"""Where Millrace runs: this machine (infra.local) and, beside it, the cloud."""
