"""The real stack, from outside: started once for the session on ports of its own, with a configuration of its own."""
