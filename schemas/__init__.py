"""What crosses a process boundary: Avro schemas, typed records, the wire format, topics, configuration.

Imports nothing of ours, so every other package may import it.
"""
