"""`attar env`: what a bug report should say about the machine."""

from attar.cli.output import ExitCode, show_pairs


def env() -> int:
    """Print versions and hardware for a bug report. Paths and tokens are left out."""
    from attar.report.environment import environment

    show_pairs(environment().items())
    return ExitCode.DONE
