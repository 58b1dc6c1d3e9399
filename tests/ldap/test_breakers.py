"""Which server is asked next."""

from directory.breakers import Breakers


def test_servers_are_tried_in_order_and_a_failed_one_rests():
    breakers = Breakers([0, 0], lambda: 1.0)
    assert breakers.candidates(0) == [0, 1]
    assert breakers.failed(0, 0.0, "why")
    assert breakers.candidates(3.9) == [1]
    assert breakers.candidates(4.0) == [0, 1]


def test_one_caller_tries_a_rested_server_out():
    breakers = Breakers([0], lambda: 1.0)
    breakers.failed(0, 0.0, "why")
    assert breakers.begin(0, 2.0)
    assert not breakers.begin(0, 2.0)
    assert breakers.candidates(2.0) == []
    assert breakers.succeeded(0)
    assert breakers.begin(0, 2.0)
    assert breakers.begin(0, 2.0)


def test_a_probe_that_never_ends_is_forgotten():
    breakers = Breakers([0], lambda: 1.0)
    breakers.failed(0, 0.0, "why")
    assert breakers.begin(0, 2.0)
    assert breakers.begin(0, 13.0)


def test_a_probe_whose_asker_left_is_anybodys_to_try_again():
    breakers = Breakers([0], lambda: 1.0)
    breakers.failed(0, 0.0, "why")
    assert breakers.begin(0, 2.0)
    breakers.given_up(0)
    assert breakers.candidates(2.0) == [0]
    assert breakers.begin(0, 2.0)


def test_rest_grows_to_five_seconds_and_is_shortened_by_chance():
    for chance, least, most in ((0.0, 2.4, 2.6), (1.0, 4.9, 5.1)):
        breakers = Breakers([0], lambda chance=chance: chance)
        for _ in range(10):
            breakers.failed(0, 0.0, "why")
        assert breakers.candidates(least) == []
        assert breakers.candidates(most) == [0]


def test_the_same_trouble_is_told_once_a_minute():
    breakers = Breakers([0], lambda: 1.0)
    told = [
        breakers.failed(0, t, w) for t, w in ((0, "a"), (1, "a"), (2, "b"), (61, "b"), (62, "b"), (63, "b"))
    ]
    assert told == [True, False, True, False, True, False]
    assert breakers.all_down
    assert breakers.why() == "b"


def test_weights_say_how_often_a_server_is_first():
    numbers = iter([i / 1000 for i in range(1000) for _ in range(2)])
    breakers = Breakers([3, 1], lambda: next(numbers))
    first = [breakers.candidates(0)[0] for _ in range(1000)]
    assert 700 < first.count(0) < 800
