"""What people give by mistake, refused at once and in a sentence."""

from pathlib import Path
from typing import Any

import pytest

from attar.annotate import event, policies, user
from attar.annotate.projects import import_, init, status
from attar.annotate.refusals import Moved
from attar.annotate.settings import AnnotateConfig
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.config import SegmenterConfig


def test_a_dictionary_that_cannot_be_read_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot read the dictionary 'typo\.txt'"):
        init("thai", segmenter=SegmenterConfig(dictionary="typo.txt"))
    assert not Path("thai").exists()


def test_a_table_is_not_read_as_lines_unless_asked(tmp_path: Path) -> None:
    table = tmp_path / "pool.csv"
    table.write_text("id,text\n1,abc\n", encoding="utf-8")
    init(tmp_path / "thai")
    with pytest.raises(DataError, match=r"found a table; save its column of text as \.jsonl"):
        import_(tmp_path / "thai", data=table)
    assert import_(tmp_path / "thai", data=table, format="lines").details["new"] == 2


def test_lines_of_spaces_are_nobodys_task(tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text("abc\n   \n", encoding="utf-8")
    init(tmp_path / "thai")
    details = import_(tmp_path / "thai", data=tmp_path / "pool.txt").details
    assert (details["new"], details["refused"]) == (1, 1)


def test_a_damaged_database_is_to_be_restored(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "thai" / "attar.db").write_text("hello", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be opened .*; restore it from a backup"):
        status(tmp_path / "thai")


def test_a_name_that_is_no_part_of_an_address_is_no_guideline(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "g.md").write_text("Join.")
    for name in ("g2/b", "..", " ", "x" * 41):
        with pytest.raises(ConfigError, match="a name of at most 40 characters without /"):
            event.add(
                tmp_path / "thai", kind="guideline.change", after=name, guideline=tmp_path / "g.md"
            )


def test_the_demo_takes_no_options(tmp_path: Path) -> None:
    for options in ({"segmenter": SegmenterConfig(dictionary="x")}, {"guideline": "absent.md"}):
        with pytest.raises(ConfigError, match="leave others out, or leave --demo out"):
            init(tmp_path / "demo", demo=True, **options)
    assert not (tmp_path / "demo").exists()


def test_a_project_is_not_imported_into_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(tmp_path / "thai")
    (tmp_path / "thai" / "mine.txt").write_text("abc\n")
    monkeypatch.chdir(tmp_path / "thai")
    for data in (tmp_path / "thai", tmp_path, "."):
        with pytest.raises(ConfigError, match="holds the project itself: name the files"):
            import_(tmp_path / "thai", data=data)
    with pytest.raises(DataError, match="found an empty name"):
        import_(tmp_path / "thai", data="")
    assert import_(tmp_path / "thai", data=tmp_path / "thai" / "mine.txt").details["new"] == 1


def test_answers_need_words(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "pool.txt").write_text("abc\n")
    with pytest.raises(DataError, match="none has its words"):
        import_(tmp_path / "thai", data=tmp_path / "pool.txt", annotator="old")
    assert not user.list(tmp_path / "thai").details["users"]


def test_why_nothing_could_be_imported(tmp_path: Path) -> None:
    init(tmp_path / "thai", config=AnnotateConfig(longest=3))
    (tmp_path / "blank.txt").write_text("a\0b\n")
    (tmp_path / "long.txt").write_text("abcd\n")
    with pytest.raises(DataError, match=r"0 longer ones and 1 that are blank .*: give a file"):
        import_(tmp_path / "thai", data=tmp_path / "blank.txt")
    with pytest.raises(DataError, match=r"1 longer ones and 0 .*: cut them into sentences"):
        import_(tmp_path / "thai", data=tmp_path / "long.txt")


def test_who_and_what_a_change_concerns_has_to_be_there(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "pool.txt").write_text("abc\n")
    import_(tmp_path / "thai", data=tmp_path / "pool.txt", snapshot="w1")
    user.add(tmp_path / "thai", "kanya", token=True)
    with pytest.raises(ConfigError, match="no account 'kania'; did you mean 'kanya'"):
        event.add(tmp_path / "thai", kind="annotator.train", scope="kania")
    event.add(tmp_path / "thai", kind="annotator.train", scope="kanya")
    with pytest.raises(DataError, match="the snapshots are w1"):
        event.add(tmp_path / "thai", kind="corpus.remove", scope="w9")


def test_another_token_gives_no_other_role(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    user.add(tmp_path / "thai", "kanya", token=True)
    user.add(tmp_path / "thai", "kanya", token=True)
    with pytest.raises(ConfigError, match="is there already, as annotator"):
        user.add(tmp_path / "thai", "kanya", role="admin", token=True)


def test_a_password_is_text(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    with pytest.raises(ConfigError, match="bytes that are no UTF-8"):
        user.add(tmp_path / "thai", "kanya", password="\udcff" * 10)


def test_a_damaged_url_is_told(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "thai" / "project.yaml").write_text("format: 1\ndatabase: ../other.db\n")
    with pytest.raises(ConfigError, match=r"found '\.\./other\.db'; restore it from a backup"):
        status(tmp_path / "thai")


def test_answers_that_a_change_of_guideline_meets_are_imported_under_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(tmp_path / "thai")
    (tmp_path / "gold.label").write_text("ก|ข|\n", encoding="utf-8")
    write, tries = policies._import, 0

    def meanwhile(*args: Any, **kwargs: Any) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Moved("the guideline was changed at this moment")
        return write(*args, **kwargs)

    monkeypatch.setattr(policies, "_import", meanwhile)
    details = import_(tmp_path / "thai", data=tmp_path / "gold.label", annotator="old").details
    assert (details["answers"], tries) == (1, 2)
