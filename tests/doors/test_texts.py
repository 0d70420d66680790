"""Texts reach the target as they are, queries are what a client could send, and what cannot be is refused by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import labelleaks as ll
from labelleaks.cli import from_spec
from labelleaks.cli.spec import AuditSpec
from labelleaks.cli.spec_file import load_spec
from labelleaks.core.domains import Text
from labelleaks.core.near_duplicates import nearly_equal
from labelleaks.core.similar_texts import ALIKE, nearest_alike, normalised
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import encode, take
from labelleaks.inputs.files import read_rows
from labelleaks.testing.domains import check_domain

ODD = [
    "",
    " two  spaces",
    "emoji 😀 \ud800 lone",
    "مرحبا بالعالم اليوم",
    "nul\x00 and\r\nline\n\nends ",
    "again",
    "again",
    "\t",
]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran", "far", "away", "from", "here"]


def _sentences(count: int, seed: int, words: int = 9) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, words)) + "." for _ in range(count)]


class Seen:
    """A target that keeps what it is asked, and counts cats."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def __call__(self, rows: Any) -> list[int]:
        self.batches.append(rows)
        return [text.count("cat") % 2 for text in rows]

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


def _audit(target: Any, members: Any, nonmembers: Any, *attacks: Any, **keys: Any) -> Any:
    return ll.audit(
        target, members=members, nonmembers=nonmembers, attacks=list(attacks) or ["gap"], show_progress=False,
        **{"budget": 12, "thresholds": [], **keys},
    )  # fmt: skip


def _labelled(texts: Sequence[str]) -> tuple[Sequence[str], list[int]]:
    return texts, [text.count("cat") % 2 for text in texts]


# --- the format -------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(), min_size=1, max_size=8),
    st.sampled_from([r"\S+\s*", ".", r"\w", r"[aeiou]+"]),
    st.integers(2, 9),
)
def test_texts_come_back_byte_for_byte(texts: list[str], tokens: str, pieces: int) -> None:
    domain = Text(tokens, pieces).learn(texts)
    codes = domain.vocabulary.encode(texts, domain.width)
    assert domain.vocabulary.decode(codes) == texts
    assert domain.width <= pieces
    order = list(reversed(texts))
    assert Text(tokens, pieces).learn(order).vocabulary.words == domain.vocabulary.words


@pytest.mark.parametrize("word", [Text(), Text(r"\w"), Text(mask="[MASK] "), Text(pieces=2)], ids=repr)
def test_the_domain_of_texts_keeps_its_contract(word: Text) -> None:
    domain = word.learn(ODD)
    check_domain(domain, (domain.width,))


@pytest.mark.parametrize(
    "rows",
    [
        ODD,
        np.array(["a b", "c"]),
        np.array(["a b", "c"], object),
        pd.Series(["a b", "c"]),
        pd.Series(["a", ""], dtype="string"),
    ],
    ids=["list", "array", "objects", "Series", "string"],
)
def test_the_target_gets_the_container_that_was_given(rows: Any) -> None:
    form = encode([take((rows, [0] * len(rows)), "members")]).form
    back = form.decode(form.encode(rows, "members"))
    assert type(back) is type(rows) and list(back) == list(rows)
    assert getattr(back, "dtype", None) == getattr(rows, "dtype", None)


def test_long_texts_are_taken_apart_in_equal_pieces() -> None:
    text = " ".join(f"w{i}" for i in range(10_000))
    words = Text(pieces=100).split(text)
    assert len(words) == 100 and "".join(words) == text
    assert {len(word.split()) for word in words} == {100}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a", None], "members: row 1 is None"),
        (["a", 3.0], "members: row 1 is 3.0"),
        ([], "members"),
        ("a text", "x is a str"),
    ],
)
def test_rows_that_are_no_texts_are_refused(rows: Any, says: str) -> None:
    seen = Seen()
    with pytest.raises(InputError, match=says) as caught:
        _audit(seen, (rows, [0] * len(rows)), (["b"], [0]), classes=2)
    assert "\n" not in str(caught.value) and not seen.batches


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ({"tokens": "("}, "no regular expression"),
        ({"pieces": 1}, "from 2 to"),
        ({"mask": ""}, "mask=''"),
        ({"tokens": 3}, "tokens=3"),
    ],
)
def test_settings_of_texts_are_checked(word: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Text(**word)


def test_a_domain_for_texts_and_rows_of_another_kind_are_refused() -> None:
    x = np.random.default_rng(0).random((4, 3), np.float32)
    with pytest.raises(InputError, match="members are no texts"):
        _audit(Seen(), (x, [0, 1, 0, 1]), (x, [0, 1, 0, 1]), domain=ll.Text())
    with pytest.raises(InputError, match=r"members are texts: give ll.Text\(\)"):
        _audit(Seen(), _labelled(_sentences(4, 0)), _labelled(_sentences(4, 1)), domain=ll.Box(0, 1))
    with pytest.raises(InputError, match="nonmembers"):
        _audit(Seen(), _labelled(_sentences(4, 0)), (x, [0, 1, 0, 1]))


# --- queries ----------------------------------------------------------------------------------------------------------


def _is_subsequence(words: Sequence[str], of: Sequence[str]) -> bool:
    left = iter(of)
    return all(word in left for word in words)


def test_queries_are_the_texts_without_some_words_and_never_empty() -> None:
    members, others = _sentences(20, 0), [*_sentences(19, 1), "one"]
    seen = Seen()
    _audit(seen, _labelled(members), _labelled(others), "gap", "noise", "boundary", budget=30)
    assert set(members) | set(others) <= set(seen.texts)
    whole = [Text().split(text) for text in (*members, *others)]
    for text in set(seen.texts):
        assert text.strip() and any(_is_subsequence(Text().split(text), words) for words in whole), text


def test_a_mask_stands_where_a_word_was() -> None:
    seen = Seen()
    _audit(
        seen, _labelled(["a cat sat"] * 2), _labelled(["a dog ran"] * 2), "noise", domain=ll.Text(mask="_ "), budget=30
    )
    assert {len(text.split()) for text in seen.texts} == {3}
    assert any("_" in text for text in seen.texts)


def test_augmentation_writes_texts_another_way() -> None:
    seen = Seen()
    _audit(seen, (["The Cat, it sat!"], [0]), (["A Dog ran"], [0]), "augmentation", classes=2)
    for expected in ("The  Cat,  it  sat!", "the cat, it sat!", "The Cat it sat", "THE CAT, IT SAT!"):
        assert expected in seen.texts
    exchanged = {"Cat, The it sat!", "The it Cat, sat!"}
    assert exchanged & set(seen.texts)


def test_boundary_counts_the_words_that_it_left_out() -> None:
    x = ["a cat sat on the mat"] * 2
    record = _audit(Seen(), (x, [1, 1]), (["the cat ran", "no dog"], [1, 0]), "boundary", budget=60)
    found = record["boundary"]
    assert found.details["distance_l0"][:3].tolist() == [1.0, 1.0, 1.0]
    assert found.details["characters_left_out"][:3].tolist() == [4.0, 4.0, 4.0]
    assert found.scores[0] == 1.0


def test_boundary_refuses_other_texts_as_starts() -> None:
    with pytest.raises(InputError, match="leave starts out"):
        _audit(Seen(), _labelled(_sentences(4, 0)), _labelled(_sentences(4, 1)), "boundary", starts=_sentences(3, 2))


# --- targets ----------------------------------------------------------------------------------------------------------


class Pipeline:
    """A stand-in for a text-classification pipeline of transformers."""

    task = "text-classification"
    tokenizer = None

    def __init__(self, *, top_k: int = 1) -> None:
        self.top_k = top_k
        self.model = nn.Linear(1, 1)
        self.model.config = type("Config", (), {"id2label": {0: "DOG", 1: "CAT"}})()  # type: ignore[assignment]

    def __call__(self, texts: list[str]) -> list[Any]:
        assert isinstance(texts, list)
        ranked = [
            [{"label": "DOG", "score": 0.1 + 0.8 * ("cat" not in text)}, {"label": "CAT", "score": 0.5}]
            for text in texts
        ]
        return ranked if self.top_k > 1 else [max(each, key=lambda one: float(str(one["score"]))) for each in ranked]


class Spacy:
    """A stand-in for a spaCy pipeline."""

    vocab = None

    def __init__(self, *names: str) -> None:
        self.pipe_names = list(names)

    def __call__(self, text: str) -> Any:
        raise AssertionError("texts are given to pipe()")

    def pipe(self, texts: list[str]) -> list[Any]:
        return [type("Doc", (), {"cats": {"DOG": 0.4, "CAT": 0.9 * ("cat" in text)}})() for text in texts]

    def get_pipe(self, name: str) -> Any:
        return type("Textcat", (), {"labels": ("DOG", "CAT")})()

    def to_bytes(self) -> bytes:
        return b"weights"


@pytest.mark.parametrize(
    "target", [Pipeline(), Pipeline(top_k=2), Spacy("tok2vec", "textcat")], ids=["one", "ranked", "spacy"]
)
@pytest.mark.parametrize("names", [True, False])
def test_pipelines_answer_labels_and_their_scores_are_dropped(target: Any, names: bool) -> None:
    y: list[Any] = ["CAT", "DOG"] if names else [1, 0]
    record = _audit(target, (["a cat", "a dog"], y), (["my cat", "my dog"], y[::-1]), "gap", "noise")
    assert record["gap"].scores.tolist() == [1, 1, 0, 0]
    assert record.classes == ("DOG", "CAT")
    assert len(record.target["fingerprint"]) > 30


def test_a_model_and_its_tokenizer_are_one_target() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.config = type("Config", (), {"id2label": {"0": "DOG", "1": "CAT"}})()

        def forward(self, cats: torch.Tensor) -> Any:
            assert not self.training
            return type("Out", (), {"logits": torch.stack([1 - cats, cats], 1) * self.scale})()

    def tokenizer(texts: list[str], *, padding: bool, truncation: bool, return_tensors: str) -> dict[str, torch.Tensor]:
        assert padding and truncation and return_tensors == "pt"
        return {"cats": torch.tensor([float("cat" in text) for text in texts])}

    tokenizer.model_max_length = 8  # type: ignore[attr-defined]
    model = Model().train()
    record = _audit((model, tokenizer), (["a cat", "a dog"], [1, 0]), (["my cat"], [0]))
    assert record["gap"].scores.tolist() == [1, 1, 0] and model.training
    with pytest.raises(InputError, match=r"\(model, tokenizer\)"):
        _audit((model, model), (["a cat"], [1]), (["a dog"], [0]))
    with pytest.raises(InputError, match=r"\(model, tokenizer\)"):
        _audit(model, (["a cat"], [1]), (["a dog"], [0]))


@pytest.mark.parametrize(
    ("target", "says"),
    [(Spacy("ner"), "textcat is needed"), (type("Other", (Pipeline,), {"task": "translation"})(), "'translation'")],
)
def test_pipelines_that_do_something_else_are_refused(target: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        _audit(target, (["a cat"], [1]), (["a dog"], [0]))


def test_a_pipeline_of_texts_refuses_numbers() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="takes texts"):
        _audit(Pipeline(), (x, [0, 1]), (x, [0, 1]))


def test_recorded_answers_serve_texts() -> None:
    members, others = _sentences(5, 0), _sentences(5, 1)
    recorded = ll.Recorded([*members, *others], [1] * 5 + [0] * 5)
    record = _audit(recorded, (members, [1] * 5), (others, [1] * 5))
    assert record["gap"].scores.tolist() == [1.0] * 5 + [0.0] * 5


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = _sentences(60, 0)
    y = ["cat" if "cat" in text else "none" for text in texts]
    joblib.dump(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y), tmp_path / "model.joblib")
    for name, part in {"m": slice(0, 20), "n": slice(20, 40)}.items():
        rows = list(zip(texts[part], y[part], strict=True))
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("body", "label"), *rows])
        lines = [json.dumps({"id": f"{name}{i}", "label": label, "body": text}) for i, (text, label) in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        pd.DataFrame(rows, columns=["body", "label"]).to_parquet(tmp_path / f"{name}.parquet")
        np.savez(tmp_path / f"{name}.npz", texts=np.array(texts[part]), labels=np.array(y[part]))
    return tmp_path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "npz"])
@pytest.mark.parametrize("named", [True, False])
def test_a_spec_reads_texts_from_files(folder: Path, ending: str, named: bool) -> None:
    said: dict[tuple[str, ...], Any] = {
        ("target",): str(folder / "model.joblib"), ("attacks",): ["gap", "noise"], ("budget",): 5,
        ("data", "members"): str(folder / f"m.{ending}"), ("data", "nonmembers"): str(folder / f"n.{ending}"),
    }  # fmt: skip
    if named:
        said |= {("data", "text"): "body", ("domain",): {"kind": "text", "tokens": r"\w+\W*"}}
    arguments = from_spec.audit_arguments(load_spec(AuditSpec, None, said), trust_pickle=True)
    assert arguments["members"][0] == _sentences(60, 0)[:20]
    record = ll.audit(**arguments, show_progress=False)
    assert record.domain["kind"] == "text" and (record.ids[3] == "m3") == (ending == "jsonl")


def test_a_table_with_a_text_among_its_columns_stays_a_table() -> None:
    bodies = _sentences(40, 3)
    x = pd.DataFrame({"body": bodies, "product": ["db", "ui"] * 20, "priority": range(40)})
    x.loc[3, "body"] = None
    seen: list[pd.DataFrame] = []

    def target(rows: pd.DataFrame) -> Any:
        seen.append(rows)
        return (rows["priority"] % 2).to_numpy()

    y = [i % 2 for i in range(40)]
    record = _audit(target, (x[:20], y[:20]), (x[20:], y[20:]), "gap", "noise", "augmentation", "boundary", classes=2)
    assert [part["part"] for part in record.domain["parts"]] == ["text", "integer", "integer", "integer"]
    sent = pd.concat(seen, ignore_index=True)
    assert (sent.dtypes == x.dtypes).all() and set(bodies[4:]) <= set(sent["body"])
    spoken = ll.Table({"product": ll.Text(mask="? ")})
    parts = _audit(target, (x[:20], y[:20]), (x[20:], y[20:]), domain=spoken, classes=2).domain["parts"]
    assert parts[2]["part"] == "text" and parts[2]["mask"] == "? "


def test_columns_of_short_or_repeated_strings_stay_categories() -> None:
    x = pd.DataFrame(
        {"name": [f"Ann Lee {i}" for i in range(40)], "status": ["is not yet paid for", "has been paid for now"] * 20}
    )
    form = encode([take((x, [0] * 40), "members")]).form
    assert [column["kind"] for column in form.describe()["columns"]] == ["one of", "one of"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"a": 1}\n[2]', "line 2: an object"),
        ('{"a": 1}\n{"b": 2}', "line 2: key 'a'"),
        ('{"a": {"b": 1}}', "line 1: an object"),
        ("nonsense", "line 1 is not JSON"),
        ("", "at least one row"),
    ],
)
def test_damaged_json_lines_are_refused_by_line(tmp_path: Path, lines: str, says: str) -> None:
    (tmp_path / "rows.jsonl").write_text(lines)
    with pytest.raises(InputError, match=says):
        read_rows(tmp_path / "rows.jsonl")


def test_json_lines_without_a_text_are_a_table(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"age": 3, "wage": null, "label": 1}\n{"age": 4, "wage": 2.5, "label": 0}\n')
    rows = read_rows(tmp_path / "rows.jsonl")
    assert rows.x["age"].tolist() == [3, 4] and rows.x["wage"].isna().tolist() == [True, False]
    assert rows.y is not None and rows.y.tolist() == [1, 0]


def test_a_text_column_is_read_as_it_is_written(tmp_path: Path) -> None:
    long = "word " * 40_000  # beyond the csv module's own limit
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("body", "label"), ("NA", 1), ("", 0), ("007", 1), (long, 0)])
    assert read_rows(tmp_path / "rows.csv", text_column="body").x == ["NA", "", "007", long]
    with pytest.raises(InputError, match="no column 'boby'"):
        read_rows(tmp_path / "rows.csv", text_column="boby")


# --- near-duplicates --------------------------------------------------------------------------------------------------


def test_texts_are_alike_as_all_pairs_say() -> None:
    texts = _sentences(60, 5, 6)

    def shingles(text: str) -> set[str]:
        plain = normalised(text)
        return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}

    mine, others = texts[:25], texts[25:]
    found = nearest_alike(mine, others)
    for i, text in enumerate(mine):
        a = shingles(text)
        scores = [len(a & shingles(other)) / len(a | shingles(other)) for other in others]
        assert found[i] == (int(np.argmax(scores)) if max(scores) >= ALIKE else -1)


def test_copies_of_a_template_are_near_duplicates_and_other_texts_are_not() -> None:
    texts = ["Call 0800 123 now to claim your prize!", "see you at lunch", "", "CALL 0871 99 NOW to claim your prize"]
    domain = Text().learn(texts)
    x = torch.from_numpy(domain.vocabulary.encode(texts, domain.width))
    assert nearly_equal(x[:3], x[3:], domain).tolist() == [True, False, False]


# --- flags and the report ---------------------------------------------------------------------------------------------


def _flags(members: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    record = _audit(Seen(), _labelled(list(members)), _labelled(list(others)))
    return {flag.name: flag for flag in record.flags}


def test_groups_that_differ_in_their_words_or_their_length_are_flagged() -> None:
    alike = _flags(_sentences(60, 1), _sentences(60, 2))
    assert not {"blind_baseline", "length_shift"} & set(alike)
    later = [f"{text} in 2026" for text in _sentences(60, 3)]
    words = _flags(_sentences(60, 1), later)
    assert words["blind_baseline"].severity == "serious"
    longer = _flags(_sentences(60, 1), _sentences(60, 2, 14))
    assert longer["length_shift"].severity == "serious" and "characters" in longer["length_shift"].raised_because


def test_copies_of_members_among_the_others_are_flagged() -> None:
    members = [f"member {i} wrote a line of {word} about {i * 7919}" for i, word in enumerate(WORDS * 3)]
    others = [*_sentences(30, 4), members[0], members[1].upper()]
    found = _flags(members, others)
    assert found["shared_rows"].raised_because.startswith("1 members")
    assert found["near_duplicates"].raised_because.startswith("1 of 31")


def test_the_report_strikes_words_through_and_takes_markup_for_text(tmp_path: Path) -> None:
    hostile = '<script>alert(1)</script> a cat </dd> & "so"'
    members = [hostile, "the cat ran", "a cat"]
    _audit(
        Seen(), (members, [1, 1, 1]), (["no dog", "nor fox", "my hen"], [1, 1, 1]), "boundary", budget=60,
        out=tmp_path / "run",
    )  # fmt: skip
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    record = ll.load(tmp_path / "run")
    assert "<script>alert" not in page and "cat </dd>" not in page
    exposed = page[page.index('<dl class="texts">') : page.index("</dl>", page.index('<dl class="texts">'))]
    assert "<del>cat</del>" in exposed
    assert record.holds_inputs and "cat" in json.dumps(record.domain)
    without = record.without_inputs()
    assert not without.holds_inputs and "cat" not in json.dumps(without.domain)
    ll.write_report(without, tmp_path / "ids.html")
    assert "cat " not in (tmp_path / "ids.html").read_text(encoding="utf-8").replace("category", "")
