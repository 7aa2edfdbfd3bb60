"""`attar annotate user` in Python: who may log in, and what they may do."""

from dataclasses import asdict
from pathlib import Path

from attar.annotate import accounts, tokens
from attar.annotate.opening import open_project
from attar.annotate.records import recorded
from attar.errors import ConfigError
from attar.report.record import Run

__all__ = ["add", "list", "role"]


def add(
    project: str | Path,
    name: str,
    *,
    role: str = "annotator",
    password: str | None = None,
    token: bool = False,
) -> Run:
    """Let somebody in.

    Args:
        project: its folder.
        name: what they log in with: letters, digits, and . @ + - _.
        role: annotator, reviewer or admin.
        password: of 8 characters at least; None: the account is for scripts alone.
        token: make a token for scripts, also of an account that is there already.

    Returns:
        The record: `details` has the account, and the `token`, which is shown this once.

    Raises:
        ConfigError: there is no project, or a name, a role or a password cannot be used.
        Conflict: there is such an account already.
        MissingExtraError: the extra `annotate` is not installed.
    """
    if password is None and not token:
        raise ConfigError("expected a password, or token=True for scripts; found neither")
    with (
        recorded("user add", project=project, name=name, role=role) as run,
        open_project(project) as opened,
    ):
        known = {one.name: one for one in accounts.users(opened)}
        account = known.get(name) if token else None
        if account is None:
            account = accounts.add_user(opened, name=name, role=role, password=password)
        elif role not in ("annotator", account.role):
            raise ConfigError(
                f"{name} is there already, as {account.role}; give them the role {role} with attar "
                "annotate user role first"
            )
        run.details = asdict(account)
        if token:
            run.details["token"] = tokens.create_token(opened, user=name)
    return run


def role(project: str | Path, name: str, *, role: str) -> Run:
    """Give somebody another role.

    Args:
        project: its folder.
        name: who.
        role: annotator, reviewer or admin.

    Raises:
        ConfigError: there is no project, or no such role.
        Unknown: there is no such account.
        Conflict: it is the last admin.
    """
    with (
        recorded("user role", project=project, name=name, role=role) as run,
        open_project(project) as opened,
    ):
        run.details = asdict(accounts.change_user(opened, name=name, role=role))
    return run


def list(project: str | Path) -> Run:
    """Who may log in.

    Args:
        project: its folder.

    Returns:
        The record: `details["users"]` has a row for each.

    Raises:
        ConfigError: there is no project.
    """
    with recorded("user list", project=project) as run, open_project(project) as opened:
        run.details = {"users": [asdict(account) for account in accounts.users(opened)]}
    return run
