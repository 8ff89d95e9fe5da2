"""The files that a reconstruction makes: meshes, splats, metadata, a picture and an archive.

Pure functions from the values of this package to bytes; the same values give the same bytes. Where
the files go is not known here.
"""
