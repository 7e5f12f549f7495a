"""Training: the loop, schedules, and what a run under way has reached."""
