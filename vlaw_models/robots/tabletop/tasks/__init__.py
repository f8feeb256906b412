"""The paper's five task categories on the embedded robot, by name."""

from vlaw_models.robots.tabletop.tasks.base import Expert, Quality, Task
from vlaw_models.robots.tabletop.tasks.book import OpenBook
from vlaw_models.robots.tabletop.tasks.draw import Draw
from vlaw_models.robots.tabletop.tasks.erase import Erase
from vlaw_models.robots.tabletop.tasks.scoop import Scoop
from vlaw_models.robots.tabletop.tasks.stack import Stack

TASKS: dict[str, Task] = {task.name: task for task in (Stack(), OpenBook(), Scoop(), Erase(), Draw())}

__all__ = ["TASKS", "Expert", "Quality", "Task"]
