"""Run what the tests and the demo need: a broker, a worker, other programs."""
