"""The verbs `annotate backup`, `upgrade` and `doctor`: what keeps a project safe."""

from dataclasses import asdict
from pathlib import Path

from attar.annotate import backups, checks
from attar.annotate.opening import open_project
from attar.annotate.records import recorded
from attar.errors import ConfigError
from attar.report.record import Run


def backup(
    project: str | Path,
    *,
    output_file: str | Path | None = None,
    restore: str | Path | None = None,
) -> Run:
    """Copy a project into one file while people work, as it was at one moment; or make a project
    of such a file.

    Args:
        project: its folder; with `restore` a new one.
        output_file: the copy; None: a file in the project's `backups/`, named after the time.
        restore: a copy to unpack.

    Returns:
        The record: `details["file"]` or `details["folder"]` is what was written.

    Raises:
        ConfigError: there is no project, it is on PostgreSQL, or the file is there already.
        DataError: what is to be restored is no backup, or is damaged.
        ResourceError: the disk is full.
    """
    with recorded("backup", project=project, output_file=output_file, restore=restore) as run:
        if restore is not None:
            if output_file is not None:
                raise ConfigError("restoring writes the project; leave --output-file out")
            run.details = {"folder": str(backups.restore(restore, project))}
            return run
        with open_project(project) as opened:
            run.details = {"file": str(backups.back_up(opened, output=output_file))}
    return run


def upgrade(project: str | Path) -> Run:
    """Bring the tables of a project to this version of Attar, after a backup of an SQLite database.

    Args:
        project: its folder; stop its server first.

    Returns:
        The record: `details` has the versions `before` and `after`, and the `backup`.

    Raises:
        ConfigError: there is no project.
        CompatibilityError: a newer version wrote it.
    """
    with recorded("upgrade", project=project) as run:
        done = backups.upgrade(project)
        run.details = asdict(done) | {"backup": done.backup and str(done.backup)}
    return run


def doctor(project: str | Path) -> Run:
    """Check a project: annotations, keys, the random sample, the queue, the models. Nothing is
    changed.

    Args:
        project: its folder.

    Returns:
        The record: `details["checks"]` has a row for each check; `details["fine"]` sums them up.

    Raises:
        ConfigError: there is no project.
        DataError: the database is damaged.
    """
    with recorded("doctor", project=project) as run, open_project(project) as opened:
        found = checks.examine(opened)
        run.details = {
            "checks": [asdict(finding) for finding in found],
            "fine": not any(checks.problems(found)),
        }
    return run
