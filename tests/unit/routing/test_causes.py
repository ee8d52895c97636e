from vanrouter.routing.causes import Causes


def test_the_first_are_named_and_the_rest_counted() -> None:
    causes = Causes()
    assert causes.take() == ""
    for number in range(5):
        causes.note(f"cause {number}")
    assert causes.take() == "cause 0; cause 1; cause 2; 2 more"
    causes.note("another")
    assert causes.take() == "another"
