"""Generate what is made from the code: documents, the dashboard, parts of the chart."""
