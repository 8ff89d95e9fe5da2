"""Reconstruction of 3D objects and bodies from one image.

Frames (the contract's): the camera frame is OpenCV's, x right, y down, z into the scene,
right-handed. The object frame is right-handed with y up, x right and z towards the camera when the
object is seen from its front; the object lies within the cube from -0.5 to 0.5. Lengths are metres
where a point map or a depth map was given; else they are in units in which the depth is about 1.
"""
