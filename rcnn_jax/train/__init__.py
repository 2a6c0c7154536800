"""How a detector learns: schedules, the step, devices, the loop."""
