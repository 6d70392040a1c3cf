"""How requests come in and answers go out: gateway, relay, batcher, and the publishing of configuration."""
