"""Objects tracked through stored videos.

`requests` says what is asked and answered, `service` admits and opens, `run` is the work on one
request; `reader`, `index`, `format` and `access` read videos, `writer` makes overlay videos, `plan`
says which frames come when, `masks` finishes them.
"""
