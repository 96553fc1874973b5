"""What others read: the HTTP server, its pages, Prometheus metrics, and what they are made of."""
