"""Projects are made, opened, upgraded, backed up and restored."""

import threading
import zipfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from annotating import Maker, annotate, answer_to, ask_all, filled, log_of
from attar.annotate import answers, queue
from attar.annotate.backups import back_up, restore, upgrade
from attar.annotate.checks import examine, problems
from attar.annotate.migrations import head
from attar.annotate.opening import create_project, open_project
from attar.annotate.refusals import Busy
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import next_sequence, state_of
from attar.annotate.tables import Base
from attar.errors import CompatibilityError, ConfigError, DataError

PLAIN = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0)


def test_the_migrations_make_the_tables(make: Maker) -> None:
    with make().engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no project\.yaml"):
        open_project(tmp_path / "nowhere")
    for url in ("mysql://x/y", "not a url"):
        with pytest.raises(ConfigError, match="PostgreSQL"):
            create_project(tmp_path / "new", database=url)
    with pytest.raises(ConfigError, match="cannot be opened"):
        create_project(tmp_path / "new", database=f"postgresql://nobody@/x?host={tmp_path}")
    assert not list(tmp_path.iterdir())
    create_project(tmp_path / "new").close()
    with pytest.raises(ConfigError, match="not empty"):
        create_project(tmp_path / "new")
    with pytest.raises(ConfigError, match="leave the URL out"):
        open_project(tmp_path / "new", database="postgresql://x/y")
    about = tmp_path / "new" / "project.yaml"
    kept = about.read_text()
    for broken, error in (
        ("{", ConfigError),
        ("[]", ConfigError),
        ("format: x\ndatabase: attar.db", ConfigError),
        ("format: 9\ndatabase: attar.db", CompatibilityError),
    ):
        about.write_text(broken)
        with pytest.raises(error):
            open_project(tmp_path / "new")
    about.write_text(kept)
    database = tmp_path / "new" / "attar.db"
    database.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_project(tmp_path / "new")
    database.unlink()
    with pytest.raises(ConfigError, match="missing"):
        open_project(tmp_path / "new")


def test_a_database_with_something_in_it_is_left_alone(make: Maker, tmp_path: Path) -> None:
    project = make()
    if project.sqlite:
        return
    url = project.engine.url.render_as_string(hide_password=False)
    with pytest.raises(ConfigError, match="holds tables"):
        create_project(tmp_path / "second", database=url)
    assert not (tmp_path / "second").exists()


def test_another_version(make: Maker) -> None:
    project = make()
    url = None if project.sqlite else project.engine.url.render_as_string(hide_password=False)
    assert upgrade(project.folder, database=url).backup is None

    def stamp(version: str) -> None:
        with project.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})

    stamp("9999")
    for call in (open_project, upgrade):
        with pytest.raises(CompatibilityError, match="newer version"):
            call(project.folder, database=url)
    with project.write() as session:
        session.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(ConfigError, match="holds no project"):
        open_project(project.folder, database=url)
    stamp(head())


def test_writers_wait_for_each_other_and_sequences_have_no_gaps(make: Maker) -> None:
    project = make()
    failed = list[BaseException]()

    def count(times: int) -> None:
        try:
            for number in range(times):
                with pytest.raises(ZeroDivisionError), project.write() as session:
                    next_sequence(session)
                    raise ZeroDivisionError
                with project.write() as session:
                    assert next_sequence(session) > number
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=count, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with project.read() as session:
        assert state_of(session).sequence == 40


def test_a_database_that_is_held_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("store", "database"):
        monkeypatch.setattr(f"attar.annotate.{module}.BUSY_MS", 50)
    with (
        create_project(tmp_path / "one") as project,
        open_project(tmp_path / "one") as other,
        project.write(),
        pytest.raises(Busy, match="send it again"),
        other.write(),
    ):
        pass


def test_a_backup_is_a_project(tmp_path: Path) -> None:
    with create_project(tmp_path / "one", settings=PLAIN) as project:
        filled(project, 3)
        ask_all(project)
        (project.models / "1").mkdir()
        (project.models / "1" / "config.json").write_text("{}")
        assert annotate(project, "ann", 2) == 2
        file = back_up(project)
        task = queue.next_task(project, annotator="ann")
        assert task
        answers.submit(project, annotator="ann", answer=answer_to(task))
        with pytest.raises(ConfigError, match="already exists"):
            back_up(project, output=file)
        assert [one.name for one in file.parent.iterdir()] == [file.name]
    with open_project(restore(file, tmp_path / "two")) as copy:
        assert len(log_of(copy)) == 2
        assert (copy.models / "1" / "config.json").read_text() == "{}"
        assert not list(problems(examine(copy)))
    with pytest.raises(ConfigError, match="empty folder"):
        restore(file, tmp_path / "two")


def test_an_upgrade_that_cannot_be_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("store", "database"):
        monkeypatch.setattr(f"attar.annotate.{module}.BUSY_MS", 50)
    with create_project(tmp_path / "one") as project:
        with project.write() as session:  # its tables are newer than it says
            session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        with project.write(), pytest.raises(Busy):  # which says nothing of its tables
            upgrade(tmp_path / "one")
    with pytest.raises(DataError, match=r"not those of the schema 0001 .*\.zip' is a copy"):
        upgrade(tmp_path / "one")


def test_backups_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no backup")
    with zipfile.ZipFile(tmp_path / "evil", "w") as archive:
        archive.writestr("../outside", "x")
    with zipfile.ZipFile(tmp_path / "half", "w") as archive:
        archive.writestr("project.yaml", "format: 1\ndatabase: attar.db\n")
        archive.writestr("attar.db", "no database")
    create_project(tmp_path / "one").close()
    with zipfile.ZipFile(tmp_path / "elsewhere", "w") as archive:
        archive.writestr("project.yaml", "format: 1\ndatabase: ../one/attar.db\n")
        archive.write(tmp_path / "one" / "attar.db", "attar.db")
    for name in ("text", "evil", "half", "elsewhere", "nowhere"):
        with pytest.raises(DataError):
            restore(tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["ไทย 100%? #1;x", "a%20b", "."])
def test_a_project_may_be_called_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    create_project(name).close()
    with open_project(name) as project, project.read() as session:
        assert state_of(session).name == (tmp_path.name if name == "." else name)
    assert (tmp_path / name / "attar.db").is_file()
    assert not list(tmp_path.glob(".*"))


def test_a_project_lies_where_a_link_points(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "thai").symlink_to("disk")
    create_project(tmp_path / "thai").close()
    assert (tmp_path / "disk" / "attar.db").is_file()
    (tmp_path / "nothing").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="does not exist"):
        create_project(tmp_path / "nothing")
