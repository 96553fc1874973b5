"""Makes the generated files of the chart; `python -m charts.generate` writes them all. Not shipped in the wheel.

`values` declares every value once: values.yaml, values.schema.json and the table of docs/chart-values.md come from it.
`dashboards` holds the Grafana dashboards as code.
"""
