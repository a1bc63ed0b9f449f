"""Distributed readiness: processes on several nodes find each other, compute together, and come to the right result."""
