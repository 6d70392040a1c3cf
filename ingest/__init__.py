"""How requests come in and answers go out: gateway, relay, batcher, controller, and the publishing of configuration."""
