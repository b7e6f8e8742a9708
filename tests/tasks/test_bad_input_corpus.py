"""Every input of the corpus is refused, by a text that names the fields and says what is wrong."""

from __future__ import annotations

import json

import pytest

from tasks.errors import InputError
from tasks.intake import read_input
from tests.tasks.bad_input_corpus import BadInput, bad_inputs, good_body

CORPUS = tuple(bad_inputs())


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.id)
def test_bad_input_is_refused_naming_its_fields(bad: BadInput) -> None:
    with pytest.raises(InputError) as refusal:
        read_input(bad.text, source="bad.json")
    text = str(refusal.value)
    assert bad.says in text
    assert [path for path in bad.expected_paths if f": {path}: " not in text] == []
    assert all(problem.where.startswith("bad.json") for problem in refusal.value.problems)


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.id)
def test_refusal_is_printable_and_short_per_problem(bad: BadInput) -> None:
    with pytest.raises(InputError) as refusal:
        read_input(bad.text, source="bad.json")
    for problem in refusal.value.problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 400


@pytest.mark.parametrize("secret", ["secret", "header.payload.xxxx"])
def test_no_refusal_shows_a_script_a_password_or_a_token(secret: str) -> None:
    for bad in CORPUS:
        with pytest.raises(InputError) as refusal:
            read_input(bad.text, source="bad.json")
        assert secret not in str(refusal.value), bad.id


def test_the_corpus_is_large_and_its_ids_are_unique() -> None:
    ids = [bad.id for bad in CORPUS]
    assert len(ids) >= 170
    assert len(set(ids)) == len(ids)


def test_the_good_body_of_the_corpus_is_accepted() -> None:
    intake = read_input(json.dumps(good_body()), source="good.json")
    assert intake.entries[0].request.wire() == good_body()
