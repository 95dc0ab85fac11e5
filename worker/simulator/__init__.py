"""A CC-FS for tests, for the demo, and for users without a call centre."""

from worker.simulator import faults
from worker.simulator.bills import MIN_BILL_BYTES, Bill, Packing, make_bill
from worker.simulator.fault_specs import FaultRate, FaultSpecError, parse_fault
from worker.simulator.faults import Fault
from worker.simulator.options import Range, SimulatorOptions
from worker.simulator.requests import AnsweredRequest, ReceivedRequest
from worker.simulator.server import Simulator, open_simulator

__all__ = [
    "MIN_BILL_BYTES",
    "AnsweredRequest",
    "Bill",
    "Fault",
    "FaultRate",
    "FaultSpecError",
    "Packing",
    "Range",
    "ReceivedRequest",
    "Simulator",
    "SimulatorOptions",
    "faults",
    "make_bill",
    "open_simulator",
    "parse_fault",
]
