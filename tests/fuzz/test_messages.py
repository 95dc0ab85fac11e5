"""What `make fuzz` sends round for minutes goes round here a few hundred times."""

from hypothesis import settings

from tests.fuzz.messages import a_message_goes_round

test_any_message_goes_round = settings(max_examples=1000)(a_message_goes_round)
