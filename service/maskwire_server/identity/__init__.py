"""Adapters that recognise callers: files of API keys, JSON Web Tokens, client certificates."""
