import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.rules import Rule, join_prefix, replace, split_prefix

words = st.lists(st.sampled_from(["การ", "ความ", "เมือง", " ", "ก", "าร", "การเมือง"]), max_size=8)
rules = st.sampled_from(
    [
        join_prefix(["การ", "ความ"]),
        split_prefix(["การ"]),
        replace(["การ|เมือง", "ก|าร"]),
        replace(["การเมือง"]),
    ]
)


@given(rule=rules, tokens=words)
def test_a_rule_keeps_the_text_and_changes_only_offsets_that_it_touches(rule, tokens):
    made = rule.rewrite(tokens)
    assert "".join(made) == "".join(tokens)
    assert all(made)

    def ends(parts):
        return {len("".join(parts[:i])) for i in range(1, len(parts))}

    assert ends(made) ^ ends(tokens) <= rule.touched("".join(tokens))


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        (join_prefix(["การ", "ความ"]), "การ|เมือง| |ความ|รัก", "การเมือง| |ความรัก"),
        (join_prefix(["การ"]), "การ| |เมือง|การ", "การ| |เมือง|การ"),
        (join_prefix(["การ"]), "จัดการ|เมือง", "จัดการ|เมือง"),
        (split_prefix(["การ"]), "การเมือง|การ|จัดการ", "การ|เมือง|การ|จัดการ"),
        (replace(["การ|เมือง"]), "การเมือง|ก|าร|เมือง|การเมืองดี", "การ|เมือง|การ|เมือง|การเมืองดี"),
    ],
)
def test_what_the_rules_do(rule, before, after):
    assert rule.rewrite(before.split("|")) == after.split("|")


@given(tokens=st.lists(st.sampled_from(["เมือง", "รัก", " "]), max_size=6))
def test_splitting_undoes_joining(tokens):
    told = [part for token in tokens for part in (["ความ"] if token != " " else []) + [token]]
    joined = join_prefix(["ความ"]).rewrite(told)
    assert split_prefix(["ความ"]).rewrite(joined) == told


def test_a_rule_survives_a_log():
    rule = join_prefix(["การ"])
    assert Rule.from_dict(rule.to_dict()) == rule
    with pytest.raises(DataError, match="expected a rule with kind"):
        Rule.from_dict({"kind": "join_prefix"})


def test_a_rule_without_words_is_refused():
    for bad in ([], [""], ["|"]):
        with pytest.raises(ConfigError, match="one word or more"):
            join_prefix(bad)
    with pytest.raises(ConfigError):
        Rule("join", ("การ",))  # pyright: ignore[reportArgumentType]
