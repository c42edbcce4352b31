"""Losses, schedules and the parts that the training programs share."""
