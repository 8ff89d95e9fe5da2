"""Questions about scenes that the small SAM 3 network never saw, for tests of what lies around it.

They are of every kind: concepts that are there once and several times, concepts that are not there,
exemplars alone, and exemplars of what is not wanted. The kinds of shapes were chosen for what tests
need; seeds are the first from 2000 on whose scenes have room for all shapes, and none was passed
over for an answer. How well the network answers is measured on `sam3_drawn_questions`.
"""

from __future__ import annotations

from tests.support.sam3_scenes import Question

QUESTIONS = (
    Question(
        2000,
        (("green", "square"), ("green", "square"), ("green", "square"), ("green", "square")),
        "green square",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2001,
        (("green", "disc"), ("green", "disc"), ("green", "disc"), ("green", "disc")),
        "green disc",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2002,
        (("blue", "disc"), ("blue", "disc"), ("blue", "disc")),
        "blue disc",
        frozenset({0, 1, 2}),
    ),
    Question(
        2003,
        (("yellow", "triangle"), ("blue", "square"), ("blue", "square"), ("blue", "square")),
        "blue square",
        frozenset({1, 2, 3}),
    ),
    Question(
        2004,
        (
            ("green", "triangle"),
            ("yellow", "triangle"),
            ("yellow", "triangle"),
            ("yellow", "triangle"),
        ),
        "yellow triangle",
        frozenset({1, 2, 3}),
    ),
    Question(
        2005,
        (("red", "square"), ("red", "triangle"), ("red", "square")),
        "red square",
        frozenset({0, 2}),
    ),
    Question(
        2006,
        (("green", "disc"), ("red", "triangle"), ("red", "triangle")),
        "red triangle",
        frozenset({1, 2}),
    ),
    Question(
        2007,
        (("red", "square"), ("red", "triangle"), ("red", "disc"), ("red", "square")),
        "red shape",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2000,
        (("green", "square"), ("green", "square"), ("green", "square"), ("green", "square")),
        "green shape",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2008,
        (("yellow", "disc"), ("yellow", "square"), ("yellow", "disc"), ("yellow", "disc")),
        "yellow shape",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2002,
        (("blue", "disc"), ("blue", "disc"), ("blue", "disc")),
        "blue shape",
        frozenset({0, 1, 2}),
    ),
    Question(
        2001,
        (("green", "disc"), ("green", "disc"), ("green", "disc"), ("green", "disc")),
        "disc",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2004,
        (
            ("green", "triangle"),
            ("yellow", "triangle"),
            ("yellow", "triangle"),
            ("yellow", "triangle"),
        ),
        "triangle",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2009,
        (("blue", "square"), ("green", "square"), ("blue", "square"), ("green", "square")),
        "square",
        frozenset({0, 1, 2, 3}),
    ),
    Question(
        2010,
        (("green", "disc"), ("green", "disc"), ("green", "disc"), ("blue", "square")),
        "blue triangle",
        frozenset(),
    ),
    Question(
        2005, (("red", "square"), ("red", "triangle"), ("red", "square")), "green disc", frozenset()
    ),
    Question(
        2011,
        (("yellow", "square"), ("red", "triangle"), ("yellow", "square")),
        "green square",
        frozenset(),
    ),
    Question(
        2002, (("blue", "disc"), ("blue", "disc"), ("blue", "disc")), "red triangle", frozenset()
    ),
    Question(2012, (("green", "square"), ("blue", "triangle")), "green triangle", frozenset()),
    Question(
        2013,
        (("yellow", "triangle"), ("blue", "disc"), ("blue", "disc")),
        "green shape",
        frozenset(),
    ),
    Question(
        2001,
        (("green", "disc"), ("green", "disc"), ("green", "disc"), ("green", "disc")),
        "",
        frozenset({0, 1, 2, 3}),
        positive=3,
    ),
    Question(
        2002,
        (("blue", "disc"), ("blue", "disc"), ("blue", "disc")),
        "",
        frozenset({0, 1, 2}),
        positive=1,
    ),
    Question(
        2003,
        (("yellow", "triangle"), ("blue", "square"), ("blue", "square"), ("blue", "square")),
        "",
        frozenset({1, 2, 3}),
        positive=3,
    ),
    Question(
        2014,
        (("green", "triangle"), ("blue", "triangle"), ("blue", "triangle"), ("green", "triangle")),
        "triangle",
        frozenset({1, 2}),
        negative=3,
    ),
    Question(
        2015,
        (("yellow", "disc"), ("yellow", "disc"), ("blue", "disc")),
        "disc",
        frozenset({2}),
        negative=0,
    ),
    Question(
        2016,
        (("blue", "square"), ("red", "square"), ("red", "square")),
        "square",
        frozenset({0}),
        negative=1,
    ),
)
