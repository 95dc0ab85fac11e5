"""Makes Prometheus's metric families of plain numbers when they are scraped."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.observe.tally import Counts, Durations, Labels


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric as the documents name it.

    Attributes:
        name: As it is scraped; a histogram's `_bucket`, `_sum` and `_count` are left out.
        kind: `counter`, `gauge` or `histogram`.
        documentation: What it says.
        labels: The names of its labels.
    """

    name: str
    kind: str
    documentation: str
    labels: Labels = ()


class Families(Collector):
    """A set of metrics, in the order in which they were declared.

    Attributes:
        entries: What was declared.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._reads: list[Callable[[], Metric]] = []

    def collect(self) -> Iterator[Metric]:
        """Everything as it stands now."""
        for read in self._reads:
            yield read()

    def counter(
        self, name: str, documentation: str, labels: Labels = (), *, known: Iterable[Labels] = ()
    ) -> Counts:
        """Declare a counter.

        Args:
            name: With its suffix `_total`.
            documentation: What it counts.
            labels: The names of its labels.
            known: Label values that are shown as 0 from the start.
        """
        entry, counts = self._declare(name, "counter", documentation, labels), Counts(known)

        def family() -> Metric:
            made = CounterMetricFamily(entry.name, entry.documentation, labels=entry.labels)
            for values, count in counts.items():
                made.add_metric(values, count)
            return made

        self._reads.append(family)
        return counts

    def histogram(self, name: str, documentation: str, bounds: Iterable[float]) -> Durations:
        """Declare a histogram without labels; its buckets end at these bounds, in seconds."""
        durations = Durations(bounds)
        self._histogram(self._declare(name, "histogram", documentation), {(): durations})
        return durations

    def histograms(
        self, name: str, documentation: str, bounds: Iterable[float], label: str, known: Iterable[str]
    ) -> Mapping[str, Durations]:
        """Declare a histogram with one label, whose values are all known."""
        by_value = {value: Durations(bounds) for value in known}
        entry = self._declare(name, "histogram", documentation, (label,))
        self._histogram(entry, {(value,): durations for value, durations in by_value.items()})
        return by_value

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Declare a gauge that is read when scraped."""
        self.gauges(name, documentation, (), lambda: {(): read()})

    def gauges(
        self, name: str, documentation: str, labels: Labels, read: Callable[[], Mapping[Labels, float]]
    ) -> None:
        """Declare a gauge with labels that is read when scraped."""
        entry = self._declare(name, "gauge", documentation, labels)

        def family() -> Metric:
            made = GaugeMetricFamily(entry.name, entry.documentation, labels=entry.labels)
            for values, value in read().items():
                made.add_metric(values, value)
            return made

        self._reads.append(family)

    def _histogram(self, entry: Entry, by_labels: Mapping[Labels, Durations]) -> None:
        def family() -> Metric:
            made = HistogramMetricFamily(entry.name, entry.documentation, labels=entry.labels)
            for values, durations in by_labels.items():
                buckets = [(_le(bound), count) for bound, count in durations.cumulative()]
                made.add_metric(values, buckets, durations.total)
            return made

        self._reads.append(family)

    def _declare(self, name: str, kind: str, documentation: str, labels: Labels = ()) -> Entry:
        entry = Entry(name, kind, documentation, labels)
        self.entries.append(entry)
        return entry


def _le(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else str(bound)
