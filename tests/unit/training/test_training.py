"""Samples, the training step and resuming: what a long run relies on."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from maskwire_server.engines.nano.windows import mask_box
from training.dataset import MAXIMUM_CLICKS, SampleStream, join, mirror
from training.plot import plot_log
from training.presets import PRESETS
from training.train import LOG_NAME, Trainer, continue_round, train

SMOKE = dataclasses.replace(PRESETS["smoke"], bf16=False)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stream() -> SampleStream:
    return SampleStream(3, 8, open_scenes=4)


def test_chunks_depend_on_their_number_alone(stream: SampleStream) -> None:
    first, second = stream.chunk(0, 64), stream.chunk(1, 64)
    again = SampleStream(3, 8, open_scenes=4).chunk(1, 64)
    for field in dataclasses.fields(second):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(second, field.name))
    assert first.colours.tobytes() != second.colours.tobytes()


def test_prompts_fit_their_targets(stream: SampleStream) -> None:
    chunk = join([stream.chunk(number, 64) for number in range(4)])
    used = chunk.clicks[..., 2] >= 0
    boxed = ~np.isnan(chunk.boxes[:, 0])
    masked = chunk.previous[:, 0, 0] >= 0
    assert (boxed | masked | used.any(1)).all()
    assert boxed.any()
    assert masked.any()
    for row in np.flatnonzero(used[:, 0] & ~masked):
        x, y = (chunk.clicks[row, 0, :2] * 64).astype(int)
        assert chunk.targets[row, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() > 0
    for row in np.flatnonzero(boxed):
        tight = np.array(mask_box(chunk.targets[row] > 127)) / 64
        visible = np.clip(chunk.boxes[row], 0, 1)
        assert np.abs(tight - visible).max() < 0.25


def test_mirrored_twice_is_the_same(stream: SampleStream) -> None:
    chunk = stream.chunk(0, 64)
    twice = mirror(mirror(chunk))
    np.testing.assert_array_equal(twice.colours, chunk.colours)
    np.testing.assert_allclose(twice.boxes, chunk.boxes, atol=1e-6)
    np.testing.assert_allclose(twice.clicks, chunk.clicks, atol=1e-6)


def test_next_round_adds_a_click_and_the_answer(stream: SampleStream) -> None:
    chunk = stream.chunk(0, 64)
    logits = torch.full((8, 4, 64, 64), -5.0)
    following = continue_round(np.random.default_rng(0), chunk, logits, torch.zeros(8, 4), 4)
    assert following is not None
    assert len(following.colours) == 4
    clicks = (following.clicks[..., 2] >= 0).sum(1)
    assert clicks.min() >= 1
    assert clicks.max() <= MAXIMUM_CLICKS
    assert (following.previous >= 0).all()
    last = following.clicks[np.arange(4), clicks - 1]
    assert (last[:, 2] == 1).all()  # nothing was answered, so that object is what was missed


def test_twenty_steps_on_one_chunk_lower_the_loss(stream: SampleStream) -> None:
    preset = dataclasses.replace(SMOKE, batch=8, fresh=8, peak_rate=2e-3, steps=1000)
    trainer, chunk = Trainer(preset, 1, CPU), stream.chunk(0, 32)
    losses = [float(trainer.train_step(chunk)[0].total.detach()) for _ in range(20)]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_a_resumed_run_ends_with_the_same_weights(stream: SampleStream, tmp_path) -> None:
    preset = dataclasses.replace(SMOKE, batch=8, fresh=4, coarse_share=0.0)
    chunks = [dataclasses.replace(stream.chunk(number, 64)) for number in range(4)]
    straight = Trainer(preset, 1, CPU)
    for chunk in chunks:
        straight.train_step(chunk)
    interrupted = Trainer(preset, 1, CPU)
    for chunk in chunks[:2]:
        interrupted.train_step(chunk)
    interrupted.save(tmp_path / "checkpoint.pt")
    resumed = Trainer(preset, 99, CPU)
    resumed.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    resumed.seed = 1
    for chunk in chunks[2:]:
        resumed.train_step(chunk)
    for name, tensor in straight.average.items():
        assert torch.equal(tensor, resumed.average[name]), name


def test_a_whole_smoke_run_leaves_checkpoint_log_and_plot(tmp_path) -> None:
    trainer = train(SMOKE, 1, tmp_path, CPU)
    assert trainer.step == SMOKE.steps
    assert (tmp_path / "checkpoint.pt").exists()
    with (tmp_path / LOG_NAME).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20]
    plot_log(tmp_path / LOG_NAME, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert train(SMOKE, 1, tmp_path, CPU).step == SMOKE.steps  # nothing left to do


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    preset = PRESETS["cpu"]
    rates = [preset.rate_at(step) for step in range(preset.steps)]
    assert rates[0] < rates[preset.warmup_steps - 1]
    assert max(rates) == pytest.approx(preset.peak_rate)
    assert rates[-1] < 2 * preset.final_rate
