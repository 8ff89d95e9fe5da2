"""Samples, the training step and resuming: what a long run relies on."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from maskwire_server.engines.nano.windows import mask_box
from training.dataset import MAXIMUM_CLICKS, Chunk, SampleStream, join, mirror
from training.export import export_weights
from training.losses import click_weights
from training.plot import plot_log
from training.presets import PRESETS
from training.rounds import SECOND_LOOK_SHARE, closer, continue_round
from training.train import LOG_NAME, Trainer, train

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
    before = (chunk.clicks[..., 2] >= 0).sum()
    logits = torch.full((8, 4, 64, 64), -5.0)
    added = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        following = continue_round(rng, chunk, logits, torch.zeros(8, 4), 8)
        assert following is not None
        assert len(following.colours) == 8
        used = following.clicks[..., 2] >= 0
        assert used.sum(1).max() <= MAXIMUM_CLICKS
        assert (following.previous >= 0).all()
        # Nothing was answered, so that object is what was missed.
        assert (following.clicks[used][:, 2] == 1).mean() > 0.8
        added += int(used.sum() - before)
    assert added == pytest.approx(64 * (1 - SECOND_LOOK_SHARE), abs=8)


def test_a_closer_cut_moves_everything_together() -> None:
    size, target = 64, np.zeros((1, 64, 64), np.uint8)
    target[:, 20:36, 24:44] = 255
    clicks = np.full((1, MAXIMUM_CLICKS, 3), -1, np.float32)
    clicks[0, 0], clicks[0, 1] = (34.5 / size, 28.5 / size, 1), (2.5 / size, 60.5 / size, 0)
    box = np.array([[24, 20, 44, 36]], np.float32) / np.float32(size)
    colours = np.repeat(target[..., None], 3, -1)
    sample = Chunk(colours, target, box, clicks, target.astype(np.float32) / np.float32(255))
    cut = closer(sample, 1.6)
    assert cut is not None
    left, top, right, bottom = mask_box(cut.targets[0] > 127) or (0, 0, 0, 0)
    assert right - left == pytest.approx(20 * size / 32, abs=1)
    np.testing.assert_allclose(cut.boxes[0] * size, [left, top, right, bottom], atol=1)
    assert ((cut.previous[0] > 0.5) == (cut.targets[0] > 127)).mean() > 0.98
    x, y = (cut.clicks[0, 0, :2] * size).astype(int)
    assert cut.targets[0, y, x] == 255
    assert (cut.clicks[0, 1, :2] < 0).any() or (cut.clicks[0, 1, :2] > 1).any()
    assert (cut.clicks[0, 2:, 2] == -1).all()
    assert closer(sample, 5.0) is None  # hardly closer than it is


def test_clicks_weigh_more_and_windows_all_the_same() -> None:
    clicks = torch.tensor([[[0.25, 0.75, 1.0], [0.9, 0.9, -1.0]], [[0, 0, -1.0], [0, 0, -1.0]]])
    weights = click_weights(clicks, 64, 4.0)
    assert weights is not None
    assert weights.mean((1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert divmod(int(weights[0, 0].argmax()), 64) in {(r, c) for r in (47, 48) for c in (15, 16)}
    assert float(weights[0, 0, 58, 58]) == float(weights[0].min())  # an unused row
    assert click_weights(clicks, 64, 0.0) is None


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


def test_a_run_starts_from_exported_weights(stream: SampleStream, tmp_path) -> None:
    first = Trainer(SMOKE, 1, CPU)
    first.train_step(stream.chunk(0, 32))
    first.save(tmp_path / "checkpoint.pt")
    export_weights(tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors")
    following = Trainer(SMOKE, 2, CPU, tmp_path / "weights.safetensors")
    for name, tensor in following.network.state_dict().items():
        assert torch.equal(tensor, first.average[name].half().float()), name


def test_a_rate_may_stay_at_its_peak_before_it_falls() -> None:
    preset = dataclasses.replace(SMOKE, steps=100, warmup_steps=10, decay_steps=40)
    rates = [preset.rate_at(step) for step in range(preset.steps)]
    assert rates[10:61] == [preset.peak_rate] * 51
    assert rates[61:] == sorted(rates[61:], reverse=True)
    assert rates[61] < preset.peak_rate


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    preset = PRESETS["cpu"]
    rates = [preset.rate_at(step) for step in range(preset.steps)]
    assert rates[0] < rates[preset.warmup_steps - 1]
    assert max(rates) == pytest.approx(preset.peak_rate)
    assert rates[-1] < 2 * preset.final_rate
