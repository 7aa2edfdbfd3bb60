"""How far people agree about the same sentences."""

from attar.annotate.store import Project


def agreement(project: Project) -> list:
    """Later."""
    return []
