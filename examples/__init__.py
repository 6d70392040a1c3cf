"""The demo and two client examples. Nothing here is imported by the platform."""
