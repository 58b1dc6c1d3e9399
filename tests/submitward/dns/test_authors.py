"""Which domains may stand in From, and as whom."""

from directory.identity import Address, Principal
from submitward.dns.authors import SAMPLE, authors_of


def principal(*addresses: str, **more: object) -> Principal:
    return Principal("login", "x", {Address(address): "" for address in addresses}, **more)  # type: ignore[arg-type]


def test_every_way_to_a_domain_counts() -> None:
    found = authors_of(
        [
            principal("a@one.example", "b@one.example", "a@two.example", domains={"three.example": ""}),
            principal("c@one.example", authors={Address("d@four.example"): ""}),
            principal("e@[192.0.2.1]", author_domains={"five.example": ""}),
        ]
    )
    assert found == {
        "one.example": ["a", "b", "c"],
        "two.example": ["a"],
        "three.example": [],
        "four.example": ["d"],
        "five.example": [],
    }


def test_who_may_write_nothing_there_does_not_count() -> None:
    only = principal("a@one.example", authors={Address("b@two.example"): ""}, only_authors=True)
    gone = principal("c@three.example", disabled=True)
    assert authors_of([only, gone]) == {"two.example": ["b"]}


def test_a_domain_of_many_is_sampled() -> None:
    many = principal(*(f"u{n}@one.example" for n in range(SAMPLE + 100)))
    assert len(authors_of([many])["one.example"]) == SAMPLE
