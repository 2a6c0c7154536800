"""Sweeps: many trainings of one spec with other values, on this machine or on a Slurm cluster.

A sweep is a Python file (`sweep.definition`) and a folder of trials (`sweep.trial`). What is tried next
comes from a sampler (`sweep.samplers`), where it runs from an executor (`sweep.executors`), and the loop
(`sweep.run`) knows neither. All state is in the folder: the same command goes on after a kill.
"""

from rcnn_jax.sweep.space import Choice, Float, Int

__all__ = ["Choice", "Float", "Int"]
