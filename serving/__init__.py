"""Recommendations over HTTP: FastAPI and Prometheus live here, and nothing that trains."""
