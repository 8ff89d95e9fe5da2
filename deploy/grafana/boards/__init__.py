"""What each dashboard shows; `python -m deploy.grafana.dashboards` writes them."""
