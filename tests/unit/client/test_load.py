"""The load generator without a server: what is drawn, counted and judged."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from PIL import Image

from maskwire_client.load import (
    Cameras,
    CapacityGoal,
    Kind,
    LatencyHistogram,
    LoadPlan,
    LoadResult,
    Mix,
    Outcome,
    PicturePool,
    PromptForm,
    Recorder,
    SessionCounts,
    draw_schedule,
    find_capacity,
    moving_frames,
    pool_of_folder,
    report,
    synthetic_pool,
    write_log,
)
from maskwire_client.load.overhead import Overhead

PLAN = LoadPlan(target="nowhere:1", rate_per_s=50, duration_s=100, warmup_s=20, seed=3)


def drawn(plan: LoadPlan):
    return list(draw_schedule(plan))


def test_a_seed_says_everything() -> None:
    assert drawn(PLAN) == drawn(PLAN)
    assert drawn(PLAN) != drawn(replace(PLAN, seed=4))


def test_arrivals_are_a_poisson_process() -> None:
    due_s = draw_schedule(PLAN).due_s
    assert (np.diff(due_s) >= 0).all()
    assert due_s[0] >= 0
    assert due_s[-1] < PLAN.length_s
    gaps = np.diff(due_s)
    # Of a Poisson process, gaps have the mean and the deviation 1 / rate.
    assert gaps.mean() == pytest.approx(1 / PLAN.rate_per_s, rel=0.05)
    assert gaps.std() == pytest.approx(1 / PLAN.rate_per_s, rel=0.1)


def test_shares_are_as_asked_for() -> None:
    mix = Mix(
        weights={Kind.SEGMENT: 3, Kind.JOB: 1},
        repeat_share=0.9,
        prompts=(PromptForm.BOX, PromptForm.TEXT),
    )
    arrivals = drawn(replace(PLAN, mix=mix))
    shares = {kind: np.mean([one.kind is kind for one in arrivals]) for kind in Kind}
    assert shares[Kind.SEGMENT] == pytest.approx(0.75, abs=0.03)
    assert shares[Kind.AUTO] == 0
    assert np.mean([one.is_new for one in arrivals]) == pytest.approx(0.1, abs=0.02)
    assert {one.prompt for one in arrivals} == {PromptForm.BOX, PromptForm.TEXT}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_per_s": 0}, "rate_per_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"connections": 0}, "connections"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"mix": Mix(weights={})}, "nothing is to be done"),
    ],
)
def test_plans_that_cannot_be_run(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"weights": {Kind.FRAME: 1}},
        {"weights": {Kind.JOB: -1}},
        {"repeat_share": 1.5},
        {"prompts": ()},
    ],
)
def test_mixes_that_cannot_be_drawn(arguments) -> None:
    with pytest.raises(ValueError, match=r"arrive|weight|repeat_share|prompt"):
        Mix(**arguments)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_new_picture_has_the_pixels_of_the_pool_and_a_digest_of_its_own() -> None:
    pool = synthetic_pool(2, 64, 48, seed=1)
    new = [pool.new(1, call) for call in range(3)]
    assert len({*new, pool.repeated(1).data}) == 4
    for data in new:
        np.testing.assert_array_equal(pixels(data), pixels(pool.repeated(1).data))
    # Another run against the same server finds none of them there.
    assert synthetic_pool(2, 64, 48, seed=1).new(1, 0) not in new


def test_pictures_follow_from_the_seed_and_show_their_object() -> None:
    first, again = synthetic_pool(3, 80, 60, seed=1), synthetic_pool(3, 80, 60, seed=1)
    assert [first.repeated(n) for n in range(3)] == [again.repeated(n) for n in range(3)]
    assert first.repeated(0) != first.repeated(1)
    assert first.repeated(4) == first.repeated(1)
    picture = first.picture(0)
    shown = pixels(picture.jpeg)
    assert shown.shape == (60, 80, 3)
    inside = shown[round(picture.point.y), round(picture.point.x)].astype(int)
    assert np.abs(inside - (190, 60, 50)).max() < 30


def test_a_camera_shows_an_object_that_comes_back() -> None:
    frames = moving_frames(8, 64, 48, seed=0)
    steps = [one.point.x for one in frames]
    assert len(set(steps)) > 4
    assert abs(steps[-1] - steps[0]) < 16
    assert all(one.box.x_min >= 0 and one.box.x_max <= 64 for one in frames)


def test_a_folder_of_images(tmp_path) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 20), "blue").save(tmp_path / "b.jpg")
    pool = pool_of_folder(tmp_path)
    assert len(pool) == 2
    assert pool.repeated(1).data == (tmp_path / "b.jpg").read_bytes()
    assert pixels(pool.new(0, 7)).shape == (20, 40, 3)
    assert (pool.picture(0).box.x_min, pool.picture(0).box.x_max) == (10, 30)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        pool_of_folder(tmp_path / "empty")
    with pytest.raises(ValueError, match="no pictures"):
        PicturePool([])


def test_latencies_keep_three_digits(tmp_path) -> None:
    histogram = LatencyHistogram()
    values = np.random.default_rng(0).lognormal(-3, 1.5, 20_000)
    for value in values:
        histogram.add(float(value))
    for percent in (50.0, 90.0, 99.0, 99.9):
        assert histogram.percentile_s(percent) == pytest.approx(
            np.percentile(values, percent), rel=0.005
        )
    assert histogram.max_s == pytest.approx(values.max(), rel=0.002)
    assert histogram.mean_s == pytest.approx(values.mean(), rel=0.002)
    log = tmp_path / "latencies.hlog"
    with log.open("w") as file:
        write_log(file, {"segment": histogram}, 12.5)
    reader = HistogramLogReader(str(log), HdrHistogram(1, 3600 * 10**6, 3))
    read = reader.get_next_interval_histogram()
    assert (read.get_tag(), read.get_total_count()) == ("segment", 20_000)
    assert read.get_value_at_percentile(99.0) == pytest.approx(
        (histogram.percentile_s(99.0) or 0) * 1e6, abs=1
    )
    reader.close()


def test_latencies_out_of_range_and_none() -> None:
    histogram = LatencyHistogram()
    assert (histogram.max_s, histogram.mean_s, histogram.percentile_s(50)) == (None, None, None)
    histogram.add(-1.0)
    histogram.add(1e9)
    assert histogram.count == 2
    assert histogram.max_s == pytest.approx(3600, rel=0.001)


def result_of(plan: LoadPlan, latency_s: float, codes: list[str], shed: int = 0) -> LoadResult:
    recorder = Recorder(plan)
    for number, code in enumerate(codes):
        due_s = plan.warmup_s + number * plan.duration_s / len(codes)
        recorder.begin(Kind.SEGMENT, due_s)
        recorder.end(Outcome(Kind.SEGMENT, due_s, latency_s, code, overload_retries=1))
    for _ in range(shed):
        recorder.shed_one(Kind.SEGMENT, plan.warmup_s)
    return LoadResult(
        plan, recorder, SessionCounts(), Overhead(), LatencyHistogram(), plan.length_s, True
    )


def test_the_warm_up_leaves_no_figures_but_its_failures() -> None:
    recorder = Recorder(PLAN)
    for due_s, code in ((1.0, "OK"), (2.0, "UNAVAILABLE"), (30.0, "OK")):
        recorder.begin(Kind.AUTO, due_s)
        recorder.end(Outcome(Kind.AUTO, due_s, 0.5, code))
    recorder.shed_one(Kind.AUTO, 1.0)
    figures = recorder.kinds[Kind.AUTO]
    assert (figures.sent, figures.ok, figures.shed) == (1, 1, 0)
    assert (recorder.failed, recorder.warmup_failures, recorder.in_flight) == (1, 1, 0)
    assert [one.code for one in recorder.kept_failures] == ["UNAVAILABLE"]


def test_a_report_counts_by_status_and_times_what_succeeded() -> None:
    plan = replace(PLAN, rate_per_s=1.0)
    shown = report(result_of(plan, 0.25, ["OK"] * 98 + ["UNAVAILABLE", "INTERNAL"], shed=3))
    segment = shown["kinds"]["segment"]
    assert segment["codes"] == {"INTERNAL": 1, "OK": 98, "UNAVAILABLE": 1}
    assert (segment["sent"], segment["ok"], segment["shed"]) == (100, 98, 3)
    assert segment["overload_retries"] == 100
    assert segment["achieved_per_s"] == pytest.approx(0.98)
    assert segment["latency_ms"]["p99"] == pytest.approx(250, rel=0.001)
    assert (shown["failed"], shown["shed"]) == (2, 3)
    assert "sessions" not in shown
    assert "sessions" in report(result_of(replace(plan, cameras=Cameras(count=1)), 0.1, ["OK"]))


async def test_capacity_is_where_the_goal_breaks() -> None:
    tried: list[float] = []

    async def measure(plan: LoadPlan) -> LoadResult:
        tried.append(plan.rate_per_s)
        return result_of(plan, 0.1 if plan.rate_per_s <= 27 else 2.0, ["OK"] * 50)

    plan = replace(PLAN, rate_per_s=10.0)
    goal = CapacityGoal(p99_s=1.0)
    capacity = await find_capacity(plan, goal, measure, growth=2.0, refinements=3)
    assert tried == [10, 20, 40, 30, 25, 27.5]
    assert (capacity.rate_per_s, capacity.broken_per_s) == (25, 27.5)
    assert capacity.steps[2].broken.startswith("p99 200")
    assert [step.is_kept for step in capacity.steps] == [True, True, False, False, True, False]


async def test_failures_and_shed_arrivals_break_the_goal() -> None:
    async def measure(plan: LoadPlan) -> LoadResult:
        codes = ["OK"] * 99 + (["UNAVAILABLE"] if plan.rate_per_s > 10 else ["OK"])
        return result_of(plan, 0.1, codes, shed=5 if plan.rate_per_s > 20 else 0)

    plan = replace(PLAN, rate_per_s=10.0)
    capacity = await find_capacity(plan, CapacityGoal(), measure, growth=2.0, refinements=0)
    assert (capacity.rate_per_s, capacity.broken_per_s) == (10, 20)
    assert capacity.steps[-1].broken == "1.0% failed or were shed"
    lenient = CapacityGoal(max_failed_share=0.02)
    capacity = await find_capacity(plan, lenient, measure, growth=2.0, refinements=0)
    assert (capacity.rate_per_s, capacity.broken_per_s) == (20, 40)
    assert capacity.steps[-1].failed_share == pytest.approx(1 - 99 / 105)


async def test_a_search_that_nothing_stops_ends() -> None:
    async def measure(plan: LoadPlan) -> LoadResult:
        return result_of(plan, 0.1, ["OK"])

    plan = replace(PLAN, rate_per_s=10.0)
    capacity = await find_capacity(plan, CapacityGoal(), measure, growth=3.0, max_rate_per_s=100)
    assert [step.rate_per_s for step in capacity.steps] == [10, 30, 90]
    assert (capacity.rate_per_s, capacity.broken_per_s) == (90, None)
    with pytest.raises(ValueError, match="growth"):
        await find_capacity(plan, CapacityGoal(), measure, growth=1.0)
