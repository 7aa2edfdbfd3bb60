"""What Attar writes: folders and files that appear when they are complete, or not at all."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from attar.errors import AttarError, ConfigError, DataError, ResourceError
from attar.foreign import read_json

#: in the state of a run: what it began with
SETTINGS_FILE = "settings.json"
#: in the state, held by the process that works there; a kill gives it back
LOCK_FILE = "lock"
#: bytes that tell what kind of file this is
_HEAD = 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def home() -> Path:
    """Where Attar keeps what it can make again: `ATTAR_HOME`, or `~/.cache/attar`.

    Raises:
        ConfigError: the first is not set, and the user has no home.
    """
    try:
        return Path(os.environ.get("ATTAR_HOME") or Path.home() / ".cache" / "attar")
    except RuntimeError:
        raise ConfigError(
            "cannot tell where your home folder is, as HOME is not set; set ATTAR_HOME to a folder "
            "that you may write to"
        ) from None


def kept_form(file: Path) -> Path:
    """The folder, below `home`, into which a file is read once; another one when it has changed.

    Raises:
        OSError: there is no such file.
    """
    stat = file.stat()
    mark = hashlib.sha256(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    return home() / file.suffix[1:].lower() / f"{file.stem}-{mark.hexdigest()[:12]}"


def expanded(path: str | Path) -> Path:
    """A path with the home folder for `~`, which a shell puts in, but nobody in Python or YAML."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises where there is no such user


def make_folder(path: Path, *, shown: Path | None = None) -> None:
    """Make a folder and those above it; `shown`: the one that the user named.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(shown or path, error) from None


def _no_folder(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot make the output folder {str(path)!r}: {error.strerror}; choose another"
    )


@dataclass(frozen=True)
class Workspace:
    """Where a run puts its result together: `path` becomes the output folder, `state` (for
    resuming) is deleted at the end.
    """

    path: Path
    resuming: bool

    @property
    def state(self) -> Path:
        """The sub-folder for what a resumed run needs."""
        return self.path / "state"


@contextmanager
def workspace(
    output_dir: str | Path, *, settings: dict[str, Any], resume: bool = False
) -> Iterator[Workspace]:
    """Put an artefact together in `<output_dir>.partial` and rename it when the block ends well, so
    that nothing half-written shows.

    After an interruption, a crash or a kill the folder stays if there is state to resume from.
    After a mistake of the user's in a fresh run it goes.

    Args:
        output_dir: the final folder, or a link to it; must be absent or empty.
        settings: what determines the result; a resumed run must come with the same.
        resume: continue an unfinished `<output_dir>.partial`; starts afresh when there is none.

    Raises:
        ConfigError: the folder holds something, an unfinished run is in the way or going on, or the
            settings differ from those it began with.
    """
    final, partial = _places(Path(output_dir))
    if resume and (final / "attar.json").is_file():
        raise ConfigError(
            f"the run in {str(final)!r} is finished, so there is nothing to resume; choose "
            "another folder to run it again"
        )
    _require_empty(final)
    noted, above = partial / "state" / SETTINGS_FILE, list[Path]()
    plain = json.loads(json.dumps(settings, sort_keys=True, default=str))
    resuming = partial.exists()
    if resuming and not resume:
        raise ConfigError(
            f"there is an unfinished run in {str(partial)!r}; finish it with resume (--resume), or "
            "delete that folder"
        )
    above = [folder for folder in partial.parents if not folder.exists()]
    make_folder(noted.parent, shown=final)
    work = Workspace(partial, resuming)
    with _alone(partial):
        if noted.exists():
            _same_settings(read_json(noted, "the settings"), plain, partial)
        try:
            if not noted.exists():
                clear(partial)  # of a run that did not get as far as this
                write_text(noted, json.dumps(plain))
            yield work
        except BaseException as error:
            machine = isinstance(error, ResourceError)
            mistake = isinstance(error, AttarError) and not machine and not resuming  # comes again
            gone = mistake or {p.name for p in work.state.iterdir()} <= {noted.name, LOCK_FILE}
            if gone:
                shutil.rmtree(partial)
                with contextlib.suppress(OSError):  # something else lies in it by now
                    for folder in above:  # the nearest first
                        folder.rmdir()
            if disk_is_full(error):
                kept = "continue with resume (--resume), which keeps what is done"
                after = "try again" if gone else kept
                raise ResourceError(
                    f"writing {str(final)!r} stopped, as the disk is full; make room and {after}"
                ) from error
            if isinstance(error, KeyboardInterrupt) and not gone:
                kept = f"continue with --resume; what is done is in {str(partial)!r}"
                raise KeyboardInterrupt(kept) from error
            raise
        _put_in_place(partial, final)
        if (final / "state").exists():  # until now: a kill in between leaves a whole artefact
            shutil.rmtree(final / "state")


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Hold an unfinished run.

    Raises:
        ConfigError: another process does.
    """
    lock = FileLock(partial / "state" / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"another process is working on the run in {str(partial)!r}; wait until it has ended, "
            "or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def clear(partial: Path) -> None:
    """Delete all that an unfinished run has made, so that there is nothing to resume from."""
    for left in [*partial.iterdir(), *(partial / "state").iterdir()]:
        if left.name not in ("state", SETTINGS_FILE, LOCK_FILE):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _places(folder: Path) -> tuple[Path, Path]:
    """Where a result goes, and where it is put together: beside the folder itself, not a link.

    Raises:
        ConfigError: it is a link to nothing, or cannot be the name of a folder.
    """
    try:
        if folder.is_symlink() and not folder.exists():
            raise ConfigError(
                f"the output folder {str(folder)!r} is a link to {str(folder.readlink())!r}, which "
                "does not exist; create that folder, or choose another"
            )
        # "." has no name to put .partial behind
        final = folder.resolve() if folder.is_symlink() or not folder.name else folder
        partial = final.with_name(final.name + ".partial")
        partial.exists()  # raises where the name is too long, or a folder above is closed
    except OSError as error:
        raise _no_folder(folder, error) from None
    return final, partial


def _require_empty(folder: Path) -> None:
    """Refuse what is neither absent nor an empty folder.

    Raises:
        ConfigError: says what is there.
    """
    if folder.is_file():
        raise ConfigError(
            f"expected a new or empty folder; {str(folder)!r} is a file: choose another place"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"expected a new or empty folder; {str(folder)!r} is not empty: choose another or "
            "empty it"
        )


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder beside the final one, whose place it takes when the block ends well; a block
    that fails leaves nothing, and what a kill leaves the next one deletes. There is nothing to
    resume: for that see `workspace`.

    Args:
        path: the final folder, or a link to it; must be absent or empty.

    Raises:
        ConfigError: the folder holds something, or cannot be made.
        ResourceError: the disk is full.
    """
    final, _ = _places(expanded(path))
    _require_empty(final)
    _sweep(final)
    unfinished = final.with_name(f".{final.name}.{os.getpid()}.partial")
    make_folder(unfinished, shown=final)
    lock = FileLock(unfinished.with_suffix(".lock"))
    try:
        with lock:
            yield unfinished
            _put_in_place(unfinished, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _require_empty(final)  # somebody else has filled it meanwhile
        if not disk_is_full(error):
            raise
        raise ResourceError(
            f"writing {str(final)!r} stopped, as the disk is full; make room and try again"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)


def _sweep(final: Path) -> None:
    """Delete what processes that were killed left of such a folder; those at work hold a lock."""
    for lock in final.parent.glob(f".{glob.escape(final.name)}.*.lock"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(".partial"), ignore_errors=True)
            lock.unlink()


def _put_in_place(partial: Path, final: Path) -> None:
    """Make an unfinished folder the final one, which is absent or empty."""
    try:
        stays = final.is_dir() and final.samefile(".")  # or a shell would stand in nothing
        if final.is_dir() and not stays:
            final.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        stays = True  # a mount point, such as a volume of a container, cannot be replaced
    if stays:
        # The record, which marks a finished run, comes last.
        for part in sorted(partial.iterdir(), key=lambda part: part.name == "attar.json"):
            if part.name != "state":
                shutil.move(part, final / part.name)
        shutil.rmtree(partial)
        return
    partial.rename(final)


def _same_settings(before: dict[str, Any], now: dict[str, Any], partial: Path) -> None:
    differing = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"the unfinished run in {str(partial)!r} was started with {key}={before.get(key)!r}, "
            f"not {now.get(key)!r}; "
            "resume with the same settings, or delete that folder to start over"
        )


def require_new_file(
    path: str | Path,
    *,
    overwrite: bool = False,
    kind: str = "",
    own: Callable[[bytes], bool] = lambda head: False,
) -> None:
    """Refuse to overwrite, but for a file of the same kind where that is asked for.

    Args:
        path: the file.
        overwrite: replace a file of the same kind.
        kind: what is written, for the message.
        own: whether a file that begins with these bytes is of that kind; by default none is.

    Raises:
        ConfigError: something is there already.
    """
    file = Path(path)
    if file.name and not os.path.lexists(path):
        return
    head = b""
    if file.is_file():
        with contextlib.suppress(OSError), file.open("rb") as old:
            head = old.read(_HEAD)
    if not own(head):
        other = f" and is not {kind}" if overwrite and kind else ""
        raise ConfigError(f"{str(path)!r} already exists{other}; choose another file or delete it")
    if not overwrite:
        raise ConfigError(
            f"{str(path)!r} already exists; replace it with overwrite (--overwrite), or choose "
            "another file"
        )


@contextmanager
def replacing(path: Path, *, folder: Path | None = None) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends well.

    So `path` is absent, old or complete, and a block that fails leaves nothing.

    Args:
        path: the file.
        folder: of the unfinished file, on the same disk; None: that of `path`.
    """
    unfinished = (folder or path.parent) / f".{path.name}.{os.getpid()}.partial"
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


@contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that appears when the block ends well.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be written; nothing is left behind.
    """
    final = expanded(path)
    require_new_file(final)
    try:
        with replacing(final) as unfinished, unfinished.open("xb") as out:
            yield out
    except OSError as error:
        raise DataError(
            f"cannot write {str(final)!r}: {error.strerror}; nothing was left behind, "
            f"{'make room' if disk_is_full(error) else 'choose another place'} and try again"
        ) from error


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of what can be made again, such as those under `home`; it is made where it is not
    there yet, by one process while others wait, and appears when it is complete.

    Args:
        folder: the folder.
        make: fills an empty folder beside it.

    Raises:
        ConfigError: it cannot be written there.
        ResourceError: the disk is full.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():  # another process may have made it meanwhile
                _make(folder, make)
    except Exception as error:
        if disk_is_full(error):
            raise ResourceError(
                f"writing {str(folder)!r} stopped, as the disk is full; make room, or set "
                "ATTAR_HOME to a folder on another disk"
            ) from error
        if not isinstance(error, OSError):
            raise
        raise ConfigError(
            f"cannot write in {str(folder.parent)!r}: {error.strerror or error}; set ATTAR_HOME to "
            "a folder that you may write to"
        ) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        make(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all; what UTF-8 cannot hold becomes an escape."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room, whichever library wrote."""
    cause = error.__cause__
    return (
        getattr(error, "errno", None) in _FULL
        or any(f"os error {code}" in str(error) for code in _FULL)
        or (cause is not None and disk_is_full(cause))
    )


@contextmanager
def shared_workspace(
    output_dir: Path, *, settings: dict[str, Any], resume: bool
) -> Iterator[Workspace]:
    """`artefacts.workspace`, that the first process opens and closes for all of them.

    Raises:
        ConfigError: on the first process, as `artefacts.workspace` does; the launcher then ends
            the others.
    """
    from attar.runtime import broadcast, processes  # torch is slow to import

    group = processes()
    if group.is_main_process:
        with workspace(output_dir, settings=settings, resume=resume) as space:
            broadcast(space)
            yield space
            group.wait_for_everyone()  # nobody may still read the state when it is deleted
    else:
        yield broadcast(None)
        group.wait_for_everyone()
    processes().wait_for_everyone()  # the artefact is in place for everyone


def require_space(folder: Path, *, needed: int, what: str) -> None:
    """Refuse to begin writing what the disk has no room for.

    Args:
        folder: that it goes into, or that will be made there.
        needed: bytes.
        what: it is, for the message.

    Raises:
        ResourceError: there is less room.
    """
    there = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"{what} takes {needed / 1e6:,.0f} MB, and the disk of {str(there)!r} has "
            f"{free / 1e6:,.0f} MB free; make room, or choose another folder"
        )
