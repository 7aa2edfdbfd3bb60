"""Conversations: which ids the assistant says, whatever form the data has."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

import talk
from attar.data.chats import is_chat, load_documents
from attar.data.data import Data
from attar.data.prompts import load_prompts
from attar.errors import DataError

MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>"
    "{% endgeneration %}\n{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: thoughts stand before the last answer only, as in some reasoning models
REWRITING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)


def said(documents: Any, tokenizer: Any) -> dict[str, list[str]]:
    """What the assistant says in each conversation, by its text."""
    found = {}
    for rows in documents.values():
        for row in rows:
            runs, last = [], False
            for token, own in zip(row["input_ids"], row["assistant_masks"], strict=True):
                if own and not last:
                    runs.append([])
                if own:
                    runs[-1].append(token)
                last = own
            found[row["text"]] = tokenizer.batch_decode(runs)
    return found


def expected(talks: list[list[dict[str, str]]], tokenizer: Any) -> dict[str, list[str]]:
    return {
        tokenizer.apply_chat_template(one, tokenize=False): [
            f"{m['content']}<|im_end|>" for m in one if m["role"] == "assistant"
        ]
        for one in talks
    }


@pytest.mark.parametrize("template", [talk.CHATML, MARKED])
def test_the_assistant_s_tokens_are_its_answers_and_their_ends(template: str) -> None:
    tokenizer, talks = talk.tokenizer(template), talk.conversations()
    found = load_documents(talk.rows(), tokenizer)
    assert is_chat(found["train"])
    assert set(found) == {"train", "validation", "test"}
    assert said(found, tokenizer) == expected(talks, tokenizer)
    for row in found["train"]:  # the ids are those of the whole text
        assert row["input_ids"] == tokenizer(row["text"], add_special_tokens=False)["input_ids"]


def test_every_file_gives_the_same(tmp_path: Path) -> None:
    tokenizer, talks = talk.tokenizer(), talk.conversations()
    whole = load_documents(talk.rows(), tokenizer)
    shared = [
        [
            {"from": {"user": "human", "assistant": "gpt"}[m["role"]], "value": m["content"]}
            for m in one
        ]
        for one in talks
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"messages": one}) for one in talks))
    (tmp_path / "b.json").write_text(json.dumps([{"conversations": one} for one in shared]))
    (tmp_path / "c.json").write_text("\n".join(json.dumps({"chat": one}) for one in talks))
    talk.rows(id=list(range(60))).to_parquet(tmp_path / "d.parquet")
    for data in ("a.jsonl", "b.json", Data(tmp_path / "c.json", prompt_column="chat"), "d.parquet"):
        found = load_documents(data if isinstance(data, Data) else tmp_path / data, tokenizer)
        assert {split: rows[:] for split, rows in found.items()} == {
            split: rows[:] for split, rows in whole.items()
        }


def test_prompts_with_completions_are_conversations() -> None:
    tokenizer, talks = talk.tokenizer(), talk.conversations()
    asked = Dataset.from_dict(
        {"prompt": [one[:-1] for one in talks], "completion": [one[-1:] for one in talks]}
    )
    answers = {text: lines[-1:] for text, lines in expected(talks, tokenizer).items()}
    assert said(load_documents(asked, tokenizer), tokenizer) == answers
    texts = {"q": [f"{i} red" for i in range(60)], "a": [f" sea {i}" for i in range(60)]}
    plain = Data(Dataset.from_dict(texts), prompt_column="q", completion_column="a")
    found = said(load_documents(plain, talk.tokenizer(None)), tokenizer)  # no template is needed
    assert found == {f"{i} red sea {i}": [f" sea {i}<|im_end|>"] for i in range(60)}


def test_bos_stands_once_before_a_prompt_and_not_in_text() -> None:
    tokenizer = talk.tokenizer("<|endoftext|>" + talk.CHATML)
    tokenizer.add_special_tokens({"bos_token": "<|endoftext|>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    try:
        pairs = Dataset.from_dict({"prompt": [f"{i}" for i in range(60)], "completion": ["a"] * 60})
        for data in (talk.rows(), pairs):
            row = load_documents(data, tokenizer)["train"][0]
            assert [at for at, token in enumerate(row["input_ids"]) if token == bos] == [0]
            assert "<|endoftext|>" not in row["text"]
    finally:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")


def test_text_stays_text() -> None:
    tokenizer = talk.tokenizer()
    texts = [f"red {i}" for i in range(60)]
    both = talk.rows(text=texts)
    assert not is_chat(load_documents(both, tokenizer)["train"])
    assert is_chat(load_documents(Data(both, prompt_column="messages"), tokenizer)["train"])
    named = Data(talk.rows(story=texts), text_column="story")
    assert not is_chat(load_documents(named, tokenizer)["train"])


def test_conversations_without_an_answer_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    talks = talk.conversations()
    talks[3] = talks[3][:1]
    talks[5] = [talk.turn("assistant", "moon")]  # nothing asked for it
    found = load_documents(Dataset.from_dict({"messages": talks}), talk.tokenizer())
    assert sum(map(len, found.values())) == 58
    assert "left out 2 of 60 conversations" in caplog.text


def test_parts_of_text_are_one_text() -> None:
    """Messages as models that see are given them."""
    talks, tokenizer = talk.conversations(), talk.tokenizer()
    parted = [
        [
            {"role": one["role"], "content": [{"type": "text", "text": half} for half in halves]}
            for one in messages
            for halves in [(one["content"][:2], one["content"][2:])]
        ]
        for messages in talks
    ]
    whole, joined = (
        load_documents(Dataset.from_list([{"messages": each} for each in given]), tokenizer)
        for given in (talks, parted)
    )
    assert joined["train"].to_dict() == whole["train"].to_dict()
    asked, told = (
        load_prompts(
            Dataset.from_list([{"messages": each} for each in given]),
            tokenizer,
            prompt_tokens=16,
            completion_tokens=4,
        )
        for given in (talks, parted)
    )
    assert told == asked


def test_what_is_no_conversation_is_told(tmp_path: Path) -> None:
    talks = talk.conversations()

    def refused(value: Any, *, template: str | None = talk.CHATML, **columns: str) -> str:
        data = Data(Dataset.from_list([{"messages": value}] * 40), **columns)
        with pytest.raises(DataError) as raised:
            load_documents(data, talk.tokenizer(template))
        return str(raised.value)

    assert "no chat template" in refused(talks[0], template=None)
    assert "in row 1 of the given data set, found none" in refused([])
    assert "in row 1 of the given data set, found str 'hello'; correct" in refused(["hello"])
    assert "the role of message 1 in row 1" in refused([{"content": "red"}])
    assert "the content of message 1 in row 1 of the given data set, found int 3" in refused(
        [{"role": "user", "content": 3}]
    )
    picture = [{"type": "image_url", "text": None}, {"type": "text", "text": "red"}]
    assert "the content of message 1 in row 1 of the given data set, found list" in refused(
        [{"role": "user", "content": picture}]
    )
    system = [talk.turn("system", "sea"), *talks[0]]
    message = refused(system, template=NO_SYSTEM + talk.CHATML)
    assert "in row 1 of the given data set, the model's chat template refuses" in message
    assert "no system role" in message
    assert "division by zero" in refused(talks[0], template="{{ 1 / 0 }}")
    assert "recursion" in refused(talks[0], template=ENDLESS)
    assert "found none in 40 conversations" in refused([talk.turn("user", "red")])
    assert "generation" in refused(talks[1], template=REWRITING)
    assert said(
        load_documents(
            Dataset.from_dict({"messages": [[*t[:2]] for t in talks]}),
            one := talk.tokenizer(REWRITING),
        ),
        one,
    ) == {
        text: [f"<think></think>{answer}" for answer in answers]
        for text, answers in expected([t[:2] for t in talks], one).items()
    }
    assert "'chat'" in refused(talks[0], prompt_column="chat")
    (tmp_path / "plain.txt").write_text("red green blue\n" * 400)
    with pytest.raises(DataError, match=r"column of conversations 'messages' in .* plain text"):
        load_documents(Data(tmp_path / "plain.txt", prompt_column="messages"), talk.tokenizer())
    with pytest.raises(DataError, match="text without a completion"):
        load_documents(Data(Dataset.from_dict({"q": ["red"]}), prompt_column="q"), talk.tokenizer())


def test_a_draft_s_prompt_ends_where_the_last_answer_begins() -> None:
    tokenizer, talks = talk.tokenizer(), talk.conversations()
    talks[1] = [*talks[1], talk.turn("user", "moon")]  # a question without an answer comes last
    columns = {
        "conversations": [[{"from": m["role"], "value": m["content"]} for m in t] for t in talks]
    }
    found = load_prompts(
        Dataset.from_dict(columns), tokenizer, prompt_tokens=200, completion_tokens=20
    )
    pairs = {
        (tokenizer.decode(p.ids), tokenizer.decode(p.completion))
        for prompts in found.values()
        for p in prompts
    }
    assert pairs == {
        (
            tokenizer.apply_chat_template(t[:i], tokenize=False, add_generation_prompt=True),
            f"{t[i]['content']}<|im_end|>",
        )
        for t in talks
        for i in [1 if len(t) < 4 else 3]
    }
    with pytest.raises(DataError, match="no system role"):
        load_prompts(
            Dataset.from_dict({"messages": [[talk.turn("system", "a")]] * 40}),
            talk.tokenizer(NO_SYSTEM + talk.CHATML),
            prompt_tokens=9,
            completion_tokens=9,
        )
