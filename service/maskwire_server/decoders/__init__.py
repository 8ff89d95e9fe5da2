"""Decoding of untrusted files in child processes with limits, so that no file harms the server.

`pool` has the children, `pooled` is what the server asks them for a tenant, `videos` a video that
it opened; `child_handle` is one child as they see it, and `nursery_handle` the process that all are
forked from. `nursery` is that process, `child` what a fork of it does, and `confinement` what is
taken from it first. `messages` is what both sides say to each other.

What a child has: numpy, OpenCV, Pillow and PyAV, loaded before the fork (64 MB resident, nearly all
of it shared); one socket to the server; one memory file, in which encoded bytes come and pixels go;
for a video the file itself. What it has not: an environment, other descriptors, threads, processes,
the network, the file system, more memory and processor time than the limits say. Most is held by
the kernel's own filter of system calls (seccomp), which needs no privilege and works under the
runtime's default filter in containers, without capabilities and on a read-only file system; where
the kernel or the architecture has none, the server says so once in its log and the limits alone
hold. Memory files are anonymous (memfd): `/dev/shm` is not used, and what they hold counts as the
container's memory.

What it costs, on two cores that also trained and tested, the fastest of many runs: 1.4 ms for a
JPEG of 1024 x 1024 pixels (5.1 instead of 3.7 ms), 0.5 ms for a frame of 640 x 480 (1.6 instead of
1.1), 30 ms for 12 megapixels (118 instead of 91). So live frames go through children too. With five
times more to do than the cores can, the two changes of process wait for their turn: 5 ms in the
median. A child takes 20 to 28 MB of its own; the server starts as fast as without.

Masks that are PNGs are decoded here, too, all of a request in one order where they are not more
than the largest image: 0.4 ms more for one of 1024 x 1024 pixels (1.0 instead of 0.6), 4 ms for
sixteen (18 instead of 13). A child that crashes on some of them does not say on which; each is
given to a child alone then, so that the right field is named.

A child decodes one file after the other of one tenant: one that a file took over could read what is
left of that tenant's files before it and change the pixels of those after it, until it is recycled
(`decoding.recycle_after = 1` has a child for each file). Another tenant's file has a child of its
own. Eight are kept for the tenants that used them last; where more take turns, each turn starts a
child anew, which took 20 ms more for a JPEG of 1024 x 1024 pixels (29 instead of 9, with more than
twice as much to do as the cores could): 4 for the fork, 3 for the end of another child, 11 until
the new one has the memory for its first picture, which its kernel must zero. That a child be wiped
instead is no way: nobody knows what code that took it over left where.
"""
