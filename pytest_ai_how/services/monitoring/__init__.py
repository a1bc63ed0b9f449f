"""Monitoring: Prometheus, Alertmanager, node-exporter, and where they are declared Grafana and DCGM."""

from pytest_ai_how.services.monitoring.alertmanager import Alert, Alertmanager
from pytest_ai_how.services.monitoring.http import ApiError, Reply
from pytest_ai_how.services.monitoring.prometheus import Prometheus, Series, Settings, Target
from pytest_ai_how.services.monitoring.service import Monitoring

__all__ = ["Alert", "Alertmanager", "ApiError", "Monitoring", "Prometheus", "Reply", "Series", "Settings", "Target"]
