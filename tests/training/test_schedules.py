"""Schedules and losses against values computed by hand."""

import math

import pytest
import tensorflow as tf

from deepcomp_tf.training import losses
from deepcomp_tf.training import schedules


def test_warmup_cosine():
  schedule = schedules.WarmupCosine(2.0, steps=110, warmup=10, final=0.1)
  assert float(schedule(0)) == pytest.approx(0.2)
  assert float(schedule(4)) == pytest.approx(1.0)
  assert float(schedule(10)) == pytest.approx(2.0)
  assert float(schedule(60)) == pytest.approx(2.0 * (0.1 + 0.9 / 2))
  assert float(schedule(35)) == pytest.approx(2.0 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2))
  assert float(schedule(110)) == float(schedule(9999)) == pytest.approx(0.2)


def test_cosine_without_warmup_falls_from_the_peak():
  rates = [float(schedules.WarmupCosine(1e-3, steps=50)(step)) for step in range(51)]
  assert rates[0] == pytest.approx(1e-3) and rates[-1] == pytest.approx(1e-5)
  assert all(a > b for a, b in zip(rates, rates[1:]))


def test_schedule_survives_serialization_in_an_optimizer():
  optimizer = tf.keras.optimizers.Adam(schedules.WarmupCosine(3e-4, steps=100, warmup=7, final=0.2))
  twin = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
  schedule = twin._learning_rate
  assert isinstance(schedule, schedules.WarmupCosine)
  assert schedule.get_config() == {"peak": 3e-4, "steps": 100, "warmup": 7, "final": 0.2}


@pytest.mark.parametrize("mse, bits, beta, target, expected", [
    (100.0, 1.5, 150.0, 1.265, 100 + 150 * 0.235),
    (100.0, 1.0, 150.0, 1.265, 100.0),
    (200.0, 0.9, 600.0, 0.8, 260.0),
])
def test_equation_1(mse, bits, beta, target, expected):
  assert float(losses.rate_distortion(mse, bits, beta, target)) == pytest.approx(expected)


@pytest.mark.parametrize("bits, expected", [(0.7, 0.0), (0.9, 600.0)])
def test_rate_has_a_gradient_only_above_its_target(bits, expected):
  bits = tf.constant(bits)
  with tf.GradientTape() as tape:
    tape.watch(bits)
    loss = losses.rate_distortion(tf.constant(50.0), bits, 600.0, 0.8)
  assert float(tape.gradient(loss, bits)) == expected


def test_weight_of_the_rate_follows_it_within_0_and_beta():
  weight = tf.Variable(100.0)
  follow = lambda bits: float(losses.follow_rate(weight, tf.constant(bits), 150.0, 1.25, 40.0))
  assert follow(1.75) == pytest.approx(120.0)
  assert follow(1.0) == pytest.approx(110.0)
  assert follow(3.25) == 150.0
  assert follow(-5.0) == 0.0 and float(weight) == 0.0


def test_learning_rate_is_divided_by_10():
  rate = schedules.divided_by_10(0.5, [2, 3], 10)
  assert [float(rate(step)) for step in (0, 19, 20, 29, 30, 99)] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
  assert schedules.divided_by_10(0.5, [], 10) == 0.5
