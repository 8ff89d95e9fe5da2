"""The parts of the composition root: how settings become limits, loaded models and services.

`app.py` alone puts them together; nothing else constructs parts.
"""
