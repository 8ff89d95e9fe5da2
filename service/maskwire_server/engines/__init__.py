"""The engines that run models, and how they are found, fetched and placed on a device.

One sub-package per engine implements `domain.engine`; beside them live what they share: the
catalogue of named models, the checkpoint cache, the choice of device, and the lookup through entry
points. No policy about requests, queues or transport belongs here. Importing this package imports
no model library.
"""
