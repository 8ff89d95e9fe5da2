"""Live sessions: one stream that prompts a still image or tracks objects through a live video.

`messages` says what goes in and out, `inbox` bounds and drops what waits, `state` is the state
machine of objects and frames, `answers` makes masks of it, `seeds` what a session is resumed from,
`session` runs one session as tasks, `service` owns all of them: limits, draining, metrics.
"""
