"""Everything in a picture: automatic mask generation after SAM's method.

`requests` says what is asked and answered, `service` finds the image, `run` is the work on one
request; `point_grid` says where to look, `proposals` what an engine answers there,
`proposal_pool` and `box_suppression` which masks count, `finishing` cleans them.
"""
