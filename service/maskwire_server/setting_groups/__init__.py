"""The groups of settings; `settings.py` puts them together and reads them."""
