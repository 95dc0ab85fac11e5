"""Makes what follows from the code: documents, the dashboard, parts of the chart."""
