"""Running a job, whoever starts it: Slurm, or one machine by itself."""

from pytest_ai_how.launch.protocol import Ended, JobFailed, Launcher, Limit, Started, Task, completed, done, run, why

__all__ = ["Ended", "JobFailed", "Launcher", "Limit", "Started", "Task", "completed", "done", "run", "why"]
