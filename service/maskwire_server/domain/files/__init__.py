"""Stored files, scoped to the caller's tenant.

`store` is the interface of a store and what a file is, `uploads` that of unfinished uploads;
`service` answers calls, `sweeper` removes what expired.
"""
