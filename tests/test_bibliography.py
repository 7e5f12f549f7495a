"""BibTeX: keys of the bundled file, entries of one's own, and short forms."""

from __future__ import annotations

import re

import pytest

from mtlbench import Balancer, UserError, register_balancer
from mtlbench.bibliography import bibtex, is_entry, key_of, paper, read_entries, references
from mtlbench.bundled import bundled
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS


class Plain(Balancer):
    """Plain."""

    def backward(self, losses, architecture):
        losses.sum().backward()
        return losses.detach()


OWN = "@misc{own2026,\n  author = {Own, My and Other, A. and Third, B.},\n  year = {2026},\n}"


def test_a_key_stands_for_its_entry_and_text_for_itself() -> None:
    assert bibtex("zhao2018modulation").startswith("@inproceedings{zhao2018modulation,\n  author = {Zhao, Xiangyun and")
    assert bibtex("zhao2018modulation").endswith("\n}")
    assert bibtex(f"\n{OWN}\n") == OWN
    assert bibtex("") == ""


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    register = register_balancer("mine", cite="zhao2018modulaton")
    with pytest.raises(UserError, match=r"has no 'zhao2018modulaton'\. Did you mean: zhao2018modulation") as caught:
        register(Plain)
    assert re.match(r".*test_bibliography\.py:\d+: the balancer 'mine': ", str(caught.value))
    assert "mine" not in BALANCERS


@pytest.mark.parametrize(
    "text", ["@misc{a, title = {A}", "@misc{a, title = {A}} and more", "@misc{title = {A}}", f"{OWN}\n\n{OWN}", "@misc"]
)
def test_a_text_that_is_not_one_whole_entry_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="its source is not one BibTeX entry"):
        register_balancer("mine", cite=text)(Plain)
    assert "mine" not in BALANCERS


def test_every_bundled_entry_is_one_whole_entry() -> None:
    assert all(is_entry(text) and key_of(text) == key for key, text in references().items())


def test_the_reader_takes_entries_and_leaves_what_stands_between() -> None:
    text = f"A remark.\n\n{OWN}\nanother {{remark}}\n@book{{b,\n  title = {{{{A}}}}\n}}\n"
    assert read_entries(text) == {"own2026": OWN, "b": "@book{b,\n  title = {{A}}\n}"}


def test_every_entry_of_the_bundled_file_is_read_and_some_method_cites_it() -> None:
    assert load_plugins() == []
    text = (bundled("methods") / "references.bib").read_text()
    assert list(references()) == sorted(references())
    assert len(references()) == text.count("\n@")
    cited = {entry.cite for registry in (ARCHITECTURES, BALANCERS) for entry in registry.entries.values()}
    assert set(references().values()) <= cited


@pytest.mark.parametrize(
    ("authors", "short"),
    [("Own, My", "Own 2026"), ("My Own and Other, A.", "Own and Other 2026"), ("A B and C D and E F", "B et al. 2026")],
)
def test_an_entrys_short_form_is_its_authors_and_year(authors: str, short: str) -> None:
    assert paper(f"@misc{{k,\n  author = {{{authors}}},\n  year = {{2026}},\n}}") == short
    assert paper("@misc{k,\n  year = {2026},\n}") == ""


def test_every_kind_takes_a_source_by_its_key() -> None:
    from mtlbench.losses.contract import Loss, register_loss
    from mtlbench.registry import LOSSES

    key = next(iter(references()))

    @register_loss("cited", cite=key)
    class Cited(Loss):
        """A loss from a paper."""

        def forward(self, embeddings, batch):
            return embeddings.sum((1, 2))

    assert LOSSES.get("cited").cite == references()[key].strip()
    assert LOSSES.get("cited").target is Cited
